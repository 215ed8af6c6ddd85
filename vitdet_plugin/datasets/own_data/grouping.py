"""Images that must not be divided over splits: frames of a video, augmented copies, images with equal pixels."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from vitdet_plugin.datasets.image_probe import ImageProbe, UnreadableImage
from vitdet_plugin.datasets.set_stats import equal_pixels, similar_groups

_SIMILAR_BITS = 4  # of 256; copies that were compressed or resized again differ in fewer
_MOST_COMPARED = 20_000  # images; each is compared with all others
_LARGEST_SIMILAR = 0.1  # a larger share of similar images is a property of the set: one background, dark images
_COPY = re.compile(r'(.+?)(?:_(?:jpe?g|png|bmp|tiff?|webp))?\.rf\.[0-9A-Za-z]{16,}')
_FRAME_WORD = re.compile(r'(.*?)[ _.-]*(?:frame|frm)[ _.-]*\d+', re.IGNORECASE)
_SEQUENCE = re.compile(r'(.*\d.*?)[ _.-]+\d+')
_NUMBER = re.compile(r'(?:frame|frm|img|image)?[ _.-]*\d+', re.IGNORECASE)
_COPIES = 'augmented copies of one image (names with .rf.)'


class _Rule(NamedTuple):
    reason: str
    group: Callable[[str, Path], Hashable | None]  # of a name without the marks of a copy, in a folder
    fewest: int  # fewer groups, or larger ones, may state something else
    largest: float = 1.0


_RULES = (
    _Rule('frames of one video (names with "frame" and a number)',
          lambda name, folder: _prefix(_FRAME_WORD, name, folder), 1),
    _Rule('images with the same name up to the last number',
          lambda name, folder: _prefix(_SEQUENCE, name, folder), 8, 0.25),
    _Rule('numbered images of one folder', lambda name, folder: folder if _NUMBER.fullmatch(name) else None, 4))


@dataclass(frozen=True)
class Grouping:
    """Images that stay together.

    Attributes:
        groups: (N,) number of the group of each image.
        reason: What the images of a group have in common besides their pixels, with the number of groups; may be empty.
        notes: Remarks about copies.
        doubtful: What images of another kind of groups have in common, which are not kept together; may be empty.
    """

    groups: list[int]
    reason: str
    notes: list[str]
    doubtful: str = ''


def groupings(paths: Sequence[Path], probes: Sequence[ImageProbe | UnreadableImage], use_folders: bool = True,
              given: Sequence[Hashable] | None = None) -> Iterator[Grouping]:
    """Yield ways to group images, the strictest first; in all of them images with equal pixels stay together.

    Args:
        paths: (N,) images.
        probes: (N,) their properties with fingerprints.
        use_folders: Whether a folder of numbered images may be a video; not for folders of classes.
        given: (N,) groups that the user states, in place of those by name.
    """
    rules, doubtful = ([(given, 'images of one group by --group-pattern')], '') if given is not None else \
        _rules(paths, use_folders)
    equal = equal_pixels(probes)
    similar = similar_groups(probes, _SIMILAR_BITS) if len(paths) <= _MOST_COMPARED else []
    similar = [members for members in similar if len(members) <= max(_LARGEST_SIMILAR * len(paths), 4)]
    notes: list[str] = []
    copies = sum(len(members) - 1 for members in equal)
    if copies:
        notes.append(f'{copies} {"image has" if copies == 1 else "images have"} the same pixels as another one')
    near = sum(len(members) for members in similar) - sum(len(members) for members in equal)
    for keys, reason in rules:
        shown = f'{reason}, {len(set(keys))} groups' if reason else ''
        if near > 0:
            alike = f'{near} images look almost like another one'
            yield Grouping(_join(keys, [*equal, *similar]), shown, [*notes, alike], doubtful)
        yield Grouping(_join(keys, equal), shown, notes, doubtful)


def groups_by_name(paths: Sequence[Path], use_folders: bool = True) -> tuple[list[Hashable], str]:
    """Group images by what their names state about their origin.

    Args:
        paths: Images.
        use_folders: Whether a folder of numbered images may be a video; not for folders of classes.

    Returns:
        A key for each image, its path if it is in no group, and the reason, empty if there are no groups.
    """
    return _rules(paths, use_folders)[0][0]


def _rules(paths: Sequence[Path], use_folders: bool) -> tuple[list[tuple[list[Hashable], str]], str]:
    """Return keys and reason of the rule for names that fits, if any, and then those of augmented copies.

    Also return the reason of a rule that gives too few or too large groups, with their number; empty without one.
    """
    names = [match[1] if (match := _COPY.fullmatch(path.stem)) else path.stem for path in paths]
    copied = Counter(name for name, path in zip(names, paths) if name != path.stem)
    found: list[tuple[list[Hashable], str]] = []
    doubtful = ''
    for rule in _RULES if use_folders else _RULES[:-1]:
        keys = [rule.group(name, path.parent) for name, path in zip(names, paths)]
        counts = Counter(key for key in keys if key is not None)
        if not counts or 2 * len(counts) > sum(counts.values()):
            continue
        if len(counts) >= rule.fewest and max(counts.values()) <= rule.largest * len(paths):
            found.append(([str(path) if key is None else key for path, key in zip(paths, keys)], rule.reason))
            doubtful = ''
            break
        if len(counts) > 1:
            doubtful = f'{rule.reason}, {len(counts)} groups'
    if len(copied) < sum(copied.values()):
        found.append(([name if copied[name] else str(path) for path, name in zip(paths, names)], _COPIES))
    else:
        found.append(([str(path) for path in paths], ''))
    return found, doubtful


def _join(keys: Sequence[Hashable], linked: Sequence[Sequence[int]]) -> list[int]:
    """Return the number of the group of each image, after those that share linked images were joined."""
    parent = list(range(len(keys)))

    def find(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    by_key: dict[Hashable, list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        by_key[key].append(index)
    for members in [*by_key.values(), *linked]:
        for other in members[1:]:
            parent[find(other)] = find(members[0])
    return [find(index) for index in range(len(keys))]


def _prefix(pattern: re.Pattern, name: str, folder: Path) -> Hashable | None:
    found = pattern.fullmatch(name)
    return (folder, found[1]) if found else None
