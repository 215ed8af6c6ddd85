"""Look at the annotation files of a folder cheaply, and read JSON files with the reason why they cannot be read."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from vitdet_plugin.datasets.conversion import Problem, list_some
from vitdet_plugin.datasets.formats.base import LastResort, SourceSet
from vitdet_plugin.datasets.formats.tree import FileTree
from vitdet_plugin.utils.track import track

_MOST_BYTES = 256 * 2**20  # larger JSON files are not parsed to recognize them


def sample(files: Sequence[PurePosixPath], per_folder: int = 3, limit: int = 24) -> list[PurePosixPath]:
    """Return the first files of each folder, at most ``limit``."""
    seen: Counter[PurePosixPath] = Counter()
    chosen = []
    for file in files:
        seen[file.parent] += 1
        if seen[file.parent] <= per_folder:
            chosen.append(file)
            if len(chosen) == limit:
                break
    return chosen


def head(path: Path, size: int = 2**16) -> str:
    """Return the beginning of a file; only its ASCII characters are reliable, in every encoding."""
    try:
        with path.open('rb') as file:
            return file.read(size).replace(b'\0', b'').decode('latin-1')
    except OSError:
        return ''


def load_text(tree: FileTree, file: PurePosixPath) -> str:
    """Return the text of a file in any encoding of :meth:`FileTree.read_text`.

    Raises:
        ValueError: With the arguments ``(line or None, reason)``.
    """
    text = tree.read_text(file)
    if text is None:
        raise ValueError(None, 'not a text file, or it cannot be opened')
    return text


def load_json(tree: FileTree, file: PurePosixPath) -> Any:
    """Return the content of a JSON file, which is not kept: files with images in them are large.

    Raises:
        ValueError: With the arguments ``(line or None, reason)``.
    """
    text = load_text(tree, file)
    if not text.strip():
        raise ValueError(None, 'the file is empty')
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        tree.json_errors[file] = str(error)
        raise ValueError(error.lineno, f'not valid JSON: {error.msg}') from None
    except RecursionError:
        raise ValueError(None, 'not valid JSON: nested too deeply') from None


def json_lines(tree: FileTree, file: PurePosixPath) -> Iterator[tuple[int, Any]]:
    """Yield the number and the content of each line of a file of JSON lines, None for a line that is not JSON."""
    for number, line in enumerate((tree.read_text(file) or '').splitlines(), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError):
                yield number, None


def find_json(tree: FileTree, is_format: Callable[[Any], bool], mark: str) -> list[PurePosixPath]:
    """Return the files among a sample of the JSON files whose content is of a format.

    Args:
        tree: The files.
        is_format: Takes the content.
        mark: Text near the beginning of such files; others are not parsed.
    """
    found = []
    for file in sample(tree.with_suffix('.json')):
        path = tree.path(file)
        if mark in head(path) and path.stat().st_size <= _MOST_BYTES:
            try:
                content = load_json(tree, file)
            except ValueError:
                continue
            if is_format(content):
                found.append(file)
    return found


def weigh(evidence: str, images: Iterable[Path | str]) -> str:
    """Return evidence for a format, as the last resort if none of the images that were looked for was found."""
    tried = [*images]
    is_found = not tried or any(isinstance(each, Path) for each in tried)
    return evidence if is_found else LastResort(f'{evidence}; none of the images was found')


def read_all_json(tree: FileTree, found: SourceSet, is_format: Callable[[Any], bool]) -> Iterator[
        tuple[PurePosixPath, Any]]:
    """Yield every JSON file of a format with its content, one at a time.

    A file that cannot be read becomes a problem of ``found``; files with another content are counted in a note.
    """
    others = []
    files = tree.with_suffix('.json')
    for file in track(files, len(files), 'JSON files') if len(files) > 1 else files:
        try:
            content = load_json(tree, file)
        except ValueError as error:
            found.problems.append(Problem(tree.path(file), *error.args))
            continue
        if is_format(content):
            yield file, content
        else:
            others.append(str(file))
    if others:
        found.notes.append(f'{len(others)} JSON files with another content are not used: {list_some(others)}')
