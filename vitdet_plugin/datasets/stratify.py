"""Divide images with several labels over two splits in equal proportions (iterative stratification).

After Sechidis, Tsoumakas and Vlahavas, On the Stratification of Multi-Label Data, ECML PKDD 2011, for groups of images.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence

import numpy as np

_NONE = object()  # stands for the label of samples without any
_MOST_MOVES = 100


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
    names = sorted(set().union(*content), key=lambda name: (name is _NONE, str(name)))
    # samples of each group, and those with each label
    counts = np.array([[len(unit), *(each[name] for name in names)] for unit, each in zip(units, content)], float)
    is_chosen = _assign(counts, fraction, np.random.default_rng(seed).permutation(len(units)))
    _refine(is_chosen, counts, fraction)
    part = np.flatnonzero(is_chosen).tolist()
    labeled = [unit for unit, each in enumerate(content) if set(each) != {_NONE}]
    for among in (range(len(units)), labeled):
        part = _with_both_sides(part, among, units, fraction * len(labels))
    return sorted(index for unit in part for index in units[unit])


def _assign(counts: np.ndarray, fraction: float, order: np.ndarray) -> np.ndarray:
    """Return which groups are chosen: those of the rarest label first, each to the side that lacks it more."""
    total = counts.sum(0)
    need = np.stack([(1 - fraction) * total, fraction * total])
    is_chosen, is_left = np.zeros(len(counts), bool), np.ones(len(counts), bool)
    for label in 1 + np.argsort(total[1:], kind='stable'):
        units = order[is_left[order] & (counts[order, label] > 0)]
        # large groups first: the small ones even out what they leave
        for unit in units[np.argsort(-counts[units, label], kind='stable')]:
            is_chosen[unit] = (need[1, label], need[1, 0]) > (need[0, label], need[0, 0])
            need[int(is_chosen[unit])] -= counts[unit]
        is_left[units] = False
    return is_chosen


def _refine(is_chosen: np.ndarray, counts: np.ndarray, fraction: float) -> None:
    """Move groups to the other side, one at a time, as long as that reduces the deviation from the shares.

    A group with several labels is assigned by the rarest one alone.
    """
    total = counts.sum(0)
    need = fraction * total - counts[is_chosen].sum(0)
    for _ in range(_MOST_MOVES):
        moved = np.where(is_chosen, -1, 1)[:, None] * counts  # what a move adds to the part
        change = (moved * (moved - 2 * need) / total).sum(1)
        best = int(change.argmin())
        if change[best] > -1e-9:
            return
        need -= moved[best]
        is_chosen[best] = not is_chosen[best]


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
