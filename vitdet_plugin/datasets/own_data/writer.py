"""Write what ``vitdet init`` has decided: annotation files, config, list of problems."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from vitdet_plugin.datasets.formats.base import SourceImage
from vitdet_plugin.datasets.formats.tree import split_of
from vitdet_plugin.datasets.own_data.config_text import comment_text, config_text
from vitdet_plugin.datasets.own_data.plan import Plan
from vitdet_plugin.datasets.own_data.tiles import Tile, write_tiles
from vitdet_plugin.datasets.to_coco import coco_content
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.track import track

_OPTIONS = ' Options: '
_OF_ANNOTATIONS = ('annotations', 'annotation', 'labels')  # such a folder is named like those of other data sets
CONFIG, PROBLEMS, ANNOTATIONS, TILES = 'config.py', 'problems.txt', 'annotations', 'tiles'


def default_out(source: Path, cwd: Path) -> Path:
    """Return ``runs/NAME`` below the current folder, or a folder next to the source if that would be inside of it."""
    root = source.resolve()
    if root.is_file():  # a file named after a split says less than its folder
        is_part = split_of(PurePosixPath(root.name)) or root.stem.startswith('_')
        folder = root.parent.parent if root.parent.name.lower() in _OF_ANNOTATIONS else root.parent
        return cwd / 'runs' / (folder.name if is_part and folder.name else root.stem)
    name = root.name or 'data'
    out = cwd / 'runs' / name
    return root.parent / f'{name}-vitdet' if _is_inside(out, root) else out


def check_out(out: Path, source: Path, option: str) -> None:
    """Check that a folder for the output is new and not inside the source.

    Raises:
        UserError: It exists or is inside the data set.
    """
    root = source.resolve()
    if root.is_dir() and _is_inside(out, root):
        raise UserError(f'{option} {out} is inside the data set {source}, which is not changed; choose another --out')
    if not is_free(out):
        raise UserError(f'{out} exists; choose another --out, or remove it')


def is_free(out: Path) -> bool:
    """Whether a folder does not exist or is empty."""
    return not out.exists() or out.is_dir() and not any(out.iterdir())


def first_line(source: Path, about: str, options: str) -> str:
    """Return the first line of a config, without a comment sign.

    Args:
        source: What the user named.
        about: Format in parentheses, and what there is.
        options: Of the command line; may be empty.
    """
    return f'{_written_for(source)} {about}' + (f'{_OPTIONS}{options}' if options else '')


def recorded_options(out: Path, source: Path) -> str | None:
    """Return the :func:`comment_text` of the options that ``vitdet init`` wrote a folder with.

    Returns:
        The options, maybe none (``''``); None if the folder was not written for this data set.
    """
    try:
        with open(out / CONFIG, encoding='utf-8') as config:
            line = config.readline().rstrip('\n')
    except OSError:
        return None
    if not line.startswith(f'# {comment_text(_written_for(source))} ('):
        return None
    return line.partition(_OPTIONS)[2]


def _written_for(source: Path) -> str:
    return f'Written by vitdet init for {source.absolute()}'


def write_plan(plan: Plan, out: Path, about: str) -> list[str]:
    """Write a plan to a new folder; an interruption leaves nothing.

    Args:
        plan: Decisions and data.
        out: Folder that does not exist or is empty.
        about: First line of the config, without a comment sign.

    Returns:
        Names of the files and folders in ``out``.

    Raises:
        UserError: The folder cannot be written.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f'.{out.name}.', dir=out.parent))
    except OSError as error:
        raise UserError(f'{out} cannot be written ({error.strerror or error}); choose another --out') from None
    try:
        partial.chmod(0o777 & ~_umask())
        (partial / ANNOTATIONS).mkdir()
        tiles = [image for _, images in plan.splits.items() for image in images if isinstance(image, Tile)]
        write_tiles(track(tiles, len(tiles), 'tiles'), partial / TILES)
        folder = common_folder(plan) if not tiles else out.absolute() / TILES
        write = _write_lists if plan.task == 'classify' else _write_coco
        for name, images in plan.splits.items():
            write(plan, images, folder, partial / ANNOTATIONS / name)
        if plan.task == 'classify':
            (partial / ANNOTATIONS / 'classes.txt').write_text('\n'.join(plan.classes) + '\n', encoding='utf-8')
        if plan.problems:
            (partial / PROBLEMS).write_text(''.join(f'{each}\n' for each in plan.problems), encoding='utf-8')
        (partial / CONFIG).write_text(config_text(plan, out.absolute(), folder, about), encoding='utf-8')
        if out.is_dir():
            out.rmdir()
        os.rename(partial, out)
    except OSError as error:
        raise UserError(f'{out} cannot be written ({error.strerror or error}); choose another --out') from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return sorted(path.name for path in out.iterdir())


def common_folder(plan: Plan) -> Path:
    """Return the folder that the names of the images are relative to."""
    parents = {os.path.abspath(image.path.parent) for _, images in plan.splits.items() for image in images}
    return Path(os.path.commonpath(parents))


def _write_coco(plan: Plan, images: Sequence[SourceImage], folder: Path, stem: Path) -> None:
    content = coco_content(images, plan.classes, lambda image: _name(image, folder), plan.task == 'segment',
                           plan.source.frequencies)
    stem.with_name(f'{stem.name}.json').write_text(json.dumps(content, ensure_ascii=False), encoding='utf-8')


def _write_lists(plan: Plan, images: Sequence[SourceImage], folder: Path, stem: Path) -> None:
    labels = {name: index for index, name in enumerate(plan.classes)}
    lines = [f'{_name(image, folder)} {labels[image.label]}\n' for image in images if image.label is not None]
    stem.with_name(f'{stem.name}.txt').write_text(''.join(lines), encoding='utf-8')


def _name(image: SourceImage, folder: Path) -> str:
    if isinstance(image, Tile):
        return image.file_name
    return Path(os.path.relpath(os.path.abspath(image.path), folder)).as_posix()


def _is_inside(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
