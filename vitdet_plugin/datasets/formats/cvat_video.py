"""Tracks of CVAT for video 1.1, whose frames are image files."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import NamedTuple

from vitdet_plugin.datasets.conversion import list_some
from vitdet_plugin.datasets.formats.collector import Collector
from vitdet_plugin.datasets.formats.shapes import Shape, to_number
from vitdet_plugin.datasets.voc_xml import Node


class Tracks(NamedTuple):
    """The tracks of a file.

    Attributes:
        root: Element <annotations>.
        tracks: Elements <track>.
    """

    root: Node
    tracks: list[Node]


def read_tracks(collector: Collector, file: PurePosixPath, content: Tracks,
                read_shape: Callable[[Node], Shape]) -> None:
    """Add the frames of a video that are image files, with the objects of the tracks.

    CVAT writes every frame of a track. Frames that are missing between two others are not interpolated: they are left
    out, with a problem.
    """
    where = collector.tree.path(file)
    objects: dict[int, list[tuple[str, Node]]] = defaultdict(list)
    hidden, missing = 0, set()
    step = _step(content.root)
    for track in content.tracks:
        last = None
        for node in track.children:
            try:
                frame = int(node.attributes.get('frame', ''))
            except ValueError:
                collector.problem(where, node.line, f'a {node.tag} of a track without the number of its frame')
                continue
            gap = range(last + step, frame, step) if last is not None else range(0)
            if gap:
                missing |= set(gap)
                collector.problem(where, node.line, f'track {track.attributes.get("id")}: the frames {gap[0]} to '
                                  f'{gap[-1]} are not stated; they are left out. Export the task from CVAT again')
            if node.attributes.get('outside') == '1':
                hidden, last = hidden + 1, None
                continue
            last = frame
            objects[frame].append((track.attributes.get('label', ''), node))
    images, reason = _find_frames(collector, file, content.root, set(objects))
    if reason:
        count = sum(map(len, objects.values()))
        collector.problem(where, None, f'{reason}; extract the frames of the video as frame_000000.png, ... next to '
                          f'this file; {count} objects in {len(objects)} frames are not converted')
        return
    for frame, image in sorted(images.items()):
        if frame in missing:
            continue
        to = collector.add_image([str(image)], file, objects=len(objects[frame]), stated=_size(content.root))
        for label, node in objects[frame] if to is not None else ():
            try:
                collector.add_object(to, label, node.line, [read_shape(node)])
            except ValueError as error:
                collector.refuse_object(to, node.line, f'{label or "an object without a label"}: {error}')
    for frame in sorted({*objects} - {*images} - missing):
        collector.problem(where, objects[frame][0][1].line, f'frame {frame} is not an image below '
                          f'{collector.tree.root}; its {len(objects[frame])} objects are not converted')
    if hidden:
        collector.found.notes.append(f'{hidden} shapes of tracks in {file} are outside of their frame and not used')


def _find_frames(collector: Collector, file: PurePosixPath, root: Node, frames: set[int]) -> tuple[
        dict[int, PurePosixPath], str]:
    """Return the image of each frame, or why none are found.

    An image belongs to the frame of the last number in its name; if these do not fit and there are as many images as
    frames, to the frame of its position.
    """
    below = [each for each in collector.tree.images if file.parent in each.parents] or collector.tree.images
    numbered: dict[int, list[PurePosixPath]] = defaultdict(list)
    for each in below:
        if numbers := re.findall(r'\d+', each.stem):
            numbered[int(numbers[-1])].append(each)
    if not numbered:
        return {}, f'no image below {collector.tree.path(file).parent} has the number of a frame in its name'
    if twice := [number for number, each in numbered.items() if len(each) > 1]:
        names = list_some([str(each) for each in numbered[twice[0]]])
        return {}, f'{len(twice)} frames fit several images, such as {names}'
    found = {number: each[0] for number, each in numbered.items()}
    size, start = _number(root, 'size'), _number(root, 'start_frame') or 0
    if size == len(found) and min(found) == 1 and 0 in {*frames, start}:
        return dict(enumerate(found[number] for number in sorted(found))), ''  # ffmpeg counts from 1
    if size is not None:
        found = {number: each for number, each in found.items() if start <= number < start + size * _step(root)}
    if not frames & {*found}:
        return {}, f'no image has the number of a frame ({min(frames, default=0)} to {max(frames, default=0)})'
    return found, ''


def _meta(root: Node, name: str) -> Node | None:
    """Return an element of <meta>, or of <task> or <job> in it."""
    meta = root.find('meta')
    for parent in (meta, *(meta.children if meta else ())):
        if parent is not None and (found := parent.find(name)):
            return found
    return None


def _number(root: Node, name: str) -> int | None:
    found = _meta(root, name)
    return int(found.text) if found is not None and found.text.strip().isdigit() else None


def _step(root: Node) -> int:
    found = _meta(root, 'frame_filter')
    stated = re.search(r'step\s*=\s*(\d+)', found.text) if found else None
    return max(int(stated[1]), 1) if stated else 1


def _size(root: Node) -> tuple[float, float] | None:
    found = _meta(root, 'original_size')
    try:
        return (to_number(found.value('width')), to_number(found.value('height'))) if found else None
    except ValueError:
        return None
