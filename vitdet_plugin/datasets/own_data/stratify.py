"""Divide images with several labels over two splits in equal proportions (iterative stratification).

After Sechidis, Tsoumakas and Vlahavas, On the Stratification of Multi-Label Data, ECML PKDD 2011, for groups of images.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence

import numpy as np

_NONE = object()  # stands for the label of samples without any


def choose_part(labels: Sequence[Counter], groups: Sequence[Hashable], fraction: float, seed: int = 0) -> list[int]:
    """Choose whole groups of samples with about a share of all samples and of every label.

    Args:
        labels: (N,) number of objects of each label in each sample.
        groups: (N,) group of each sample.
        fraction: Share of the part, in (0, 1).
        seed: The same seed gives the same part.

    Returns:
        Sorted positions of the chosen samples; with at least two groups neither all nor none, and the same of the
        groups with labels.
    """
    members: dict[Hashable, list[int]] = defaultdict(list)
    for index, group in enumerate(groups):
        members[group].append(index)
    units = list(members.values())
    if len(units) < 2:
        return []
    content = [_presence(labels, unit) for unit in units]
    order = np.random.default_rng(seed).permutation(len(units))
    total = sum(content, Counter())
    # what each side still needs: images, and images with each label
    size = len(labels)
    need_images = [(1 - fraction) * size, fraction * size]
    need = [{label: share * count for label, count in total.items()} for share in (1 - fraction, fraction)]
    side: dict[int, int] = {}
    left = {int(unit) for unit in order}
    carriers: dict[Hashable, list[int]] = defaultdict(list)
    for unit in order:
        for label in content[unit]:
            carriers[label].append(int(unit))
    remaining = Counter(total)
    while left:
        label = min((label for label, count in remaining.items() if count > 0), key=lambda each: remaining[each])
        # large groups first: the small ones even out what they leave
        for unit in sorted((unit for unit in carriers[label] if unit in left), key=lambda each: -content[each][label]):
            lacking = [(need[each][label], need_images[each]) for each in (0, 1)]
            side[unit] = int(lacking[1] > lacking[0])
            left.discard(unit)
            need_images[side[unit]] -= len(units[unit])
            for name, count in content[unit].items():
                need[side[unit]][name] -= count
                remaining[name] -= count
    part = [unit for unit, number in side.items() if number]
    labeled = [unit for unit, each in enumerate(content) if set(each) != {_NONE}]
    for among in (range(len(units)), labeled):
        part = _with_both_sides(part, among, units, fraction * size)
    return sorted(index for unit in part for index in units[unit])


def _presence(labels: Sequence[Counter], unit: Sequence[int]) -> Counter:
    """Count the samples of a group with each label; those without any count as a label of their own."""
    found: Counter = Counter()
    for index in unit:
        found.update(set(labels[index]) or {_NONE})
    return found


def _with_both_sides(part: list[int], among: Sequence[int], units: list[list[int]], target: float) -> list[int]:
    """Move one of several groups if all are on one side: that of the size closest to the target, or the largest."""
    inside = set(part) & set(among)
    if len(among) < 2 or 0 < len(inside) < len(among):
        return part
    if not inside:
        return [*part, min(among, key=lambda unit: abs(len(units[unit]) - target))]
    largest = max(among, key=lambda unit: len(units[unit]))
    return [unit for unit in part if unit != largest]
