"""Images that must not be divided over splits: frames of a video, augmented copies, images with equal pixels."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path

from vitdet_plugin.datasets.image_probe import ImageProbe, UnreadableImage
from vitdet_plugin.datasets.set_stats import equal_pixels, similar_groups

_SIMILAR_BITS = 4  # of 256; copies that were compressed or resized again differ in fewer
_MOST_COMPARED = 20_000  # images; each is compared with all others
_LARGEST_SIMILAR = 0.1  # a larger share of similar images is a property of the set: one background, dark images
_FEWEST_GROUPS, _LARGEST_GROUP = 8, 0.25  # names that give fewer or larger groups state something else
_COPY = re.compile(r'(.+?)(?:_(?:jpe?g|png|bmp|tiff?|webp))?\.rf\.[0-9A-Za-z]{16,}')
_FRAME_WORD = re.compile(r'(.*?)[ _.-]*(?:frame|frm)[ _.-]*\d+', re.IGNORECASE)
_SEQUENCE = re.compile(r'(.*\d.*?)[ _.-]+\d+')
_NUMBER = re.compile(r'(?:frame|frm|img|image)?[ _.-]*\d+', re.IGNORECASE)
_COPIES = 'augmented copies of one image (names with .rf.)'
# reason, and the group of a name (without the marks of a copy) in a folder
_RULES: tuple[tuple[str, Callable[[str, Path], Hashable | None]], ...] = (
    ('frames of one video (names with "frame" and a number)', lambda name, folder: _prefix(_FRAME_WORD, name, folder)),
    ('images with the same name up to the last number', lambda name, folder: _prefix(_SEQUENCE, name, folder)),
    ('numbered images of one folder', lambda name, folder: folder if _NUMBER.fullmatch(name) else None))


def groups_by_name(paths: Sequence[Path], use_folders: bool = True) -> tuple[list[Hashable], str]:
    """Group images by what their names state about their origin.

    Args:
        paths: Images.
        use_folders: Whether a folder of numbered images may be a video; not for folders of classes.

    Returns:
        A key for each image, its path if it is in no group, and the reason, empty if there are no groups.
    """
    names = [found[1] if (found := _COPY.fullmatch(path.stem)) else path.stem for path in paths]
    copied = Counter(name for name, path in zip(names, paths) if name != path.stem)
    for reason, rule in _RULES if use_folders else _RULES[:-1]:
        keys = [rule(name, path.parent) for name, path in zip(names, paths)]
        counts = Counter(key for key in keys if key is not None)
        if (len(counts) >= _FEWEST_GROUPS and 2 * len(counts) <= sum(counts.values())
                and max(counts.values()) <= _LARGEST_GROUP * len(paths)):
            return [str(path) if key is None else key for path, key in zip(paths, keys)], reason
    if len(copied) < sum(copied.values()):
        return [name if copied[name] else str(path) for path, name in zip(paths, names)], _COPIES
    return [str(path) for path in paths], ''


def link_equal(keys: Sequence[Hashable], probes: Sequence[ImageProbe | UnreadableImage]
               ) -> tuple[list[int], list[str]]:
    """Join groups that share images with equal or nearly equal pixels.

    Args:
        keys: (N,) group of each image.
        probes: (N,) properties with fingerprints.

    Returns:
        (N,) number of the joined group of each image, and remarks.
    """
    parent = list(range(len(keys)))

    def find(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    def join(members: Sequence[int]) -> None:
        for other in members[1:]:
            parent[find(other)] = find(members[0])

    by_key: dict[Hashable, list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        by_key[key].append(index)
    equal = equal_pixels(probes)
    similar = similar_groups(probes, _SIMILAR_BITS) if len(keys) <= _MOST_COMPARED else []
    most = max(_LARGEST_SIMILAR * len(keys), 4)
    used = [members for members in similar if len(members) <= most]
    for members in [*by_key.values(), *equal, *used]:
        join(members)
    notes = []
    copies = sum(len(members) - 1 for members in equal)
    if copies:
        notes.append(f'{copies} {"image has" if copies == 1 else "images have"} the same pixels as another one')
    near = sum(len(members) for members in used) - sum(len(members) for members in equal)
    if near > 0:
        notes.append(f'{near} images look almost like another one')
    return [find(index) for index in range(len(keys))], notes


def _prefix(pattern: re.Pattern, name: str, folder: Path) -> Hashable | None:
    found = pattern.fullmatch(name)
    return (folder, found[1]) if found else None
