"""``vitdet init DATA``: recognize a data set, convert it, and write a config to train on it."""

import argparse
import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitdet_plugin.cli.arguments import parse
from vitdet_plugin.cli.checks import check_at_least
from vitdet_plugin.cli.process import run
from vitdet_plugin.datasets.own_data.offers import MODELS, TASKS

if TYPE_CHECKING:
    from vitdet_plugin.datasets.own_data.plan import Plan

DESCRIPTION = """Recognize the format of a data set by its content, convert, split and check it, and write a config.

The data set is not changed: annotation files and config are written to a new folder, and images stay where they are.
Every decision is printed with its reason; the options below replace them."""
DATA_OPTIONS = ('format', 'classes', 'task', 'model', 'val_fraction', 'group_pattern', 'image_size', 'tile', 'batch',
                'iters', 'epochs')
_ANNOTATIONS = ('.csv', '.tsv', '.xml', '.jsonl', '.ndjson', '.txt')
_LARGEST_CONFIG = 4 << 20  # bytes
_SHOWN = 5  # problems in the output; the file has all


def build_parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=prog, description=DESCRIPTION, epilog=_models(),
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('data', metavar='DATA', help='folder of a data set, its annotation file, or the archive (zip, '
                                                   'tar) as downloaded')
    parser.add_argument('--out', metavar='DIR', help='new folder for the results (default: runs/NAME OF THE DATA)')
    add_data_options(parser)
    parser.add_argument('--weights', metavar='NAME', help='start the backbone from these weights: a file, or a name of '
                                                          '"vitdet weights list"')
    parser.add_argument('--seed', type=int, default=0, metavar='N', help='seed of splits and training (default: 0)')
    parser.add_argument('--dry-run', action='store_true', help='print the decisions and write nothing')
    return parser


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that replace decisions, which ``vitdet train DATA`` has too."""
    group = parser.add_argument_group('decisions about a data set (default: made by rules, with printed reasons)')
    group.add_argument('--format', metavar='NAME', help='format of the data set, if several fit')
    group.add_argument('--classes', metavar='NAMES', help='names of numbered classes, if the data set states none: '
                       'cat,dog or a text file with a name in each line')
    group.add_argument('--task', choices=TASKS, help='boxes, masks, or classes of images (default: what there is)')
    group.add_argument('--model', metavar='NAME',
                       help=f'starting point: {", ".join(MODELS)}, or tiny for the small one of the task')
    group.add_argument('--val-fraction', type=float, metavar='F',
                       help='share of the images for validation (default: the splits of the data set, otherwise 0.2)')
    group.add_argument('--group-pattern', metavar='REGEX',
                       help='images whose names have the same match stay in one split: "(plant\\d+)_"')
    group.add_argument('--image-size', type=int, metavar='N', help='longer side of the images in pixels')
    group.add_argument('--tile', type=int, metavar='N', help='cut images into tiles of this side, for small objects')
    group.add_argument('--batch', type=int, metavar='N', help='images in a step')
    length = group.add_mutually_exclusive_group()
    length.add_argument('--iters', type=int, metavar='N', help='length of the training in steps')
    length.add_argument('--epochs', type=int, metavar='N', help='length of the training in passes over the images')


def given_options(args: argparse.Namespace) -> str:
    """Return the options of :func:`add_data_options` that a command line has, as words of a shell."""
    words = [word for name in DATA_OPTIONS if (value := getattr(args, name)) is not None
             for word in (f'--{name.replace("_", "-")}', str(value))]
    return shlex.join(words)


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    return run(parse(build_parser(prog), argv), init_command)


def init_command(args: argparse.Namespace) -> None:
    from vitdet_plugin.errors import UserError
    if (written := _read_and_write(args)) is None:
        return
    _print_next(written.out, written.plan)
    if written.errors:
        raise UserError(f'{_found(written.errors)}: correct the data, and start vitdet init again')


def is_data(path: str) -> bool:
    """Whether what is given as a config can only be data: a folder without configs, archive or annotation file."""
    from vitdet_plugin.compat.packaged_configs import shipped_configs
    from vitdet_plugin.config.names import configs_in
    from vitdet_plugin.datasets.archives import archive_suffix
    given = Path(path).expanduser()
    if given.is_dir():
        return path not in shipped_configs() and not configs_in(given)
    if not given.is_file():
        return False
    if given.suffix in ('.yaml', '.yml'):
        keys = re.findall(r'^(\w+)\s*:', given.read_text(encoding='utf-8', errors='replace'), re.MULTILINE)
        return 'names' in keys and 'model' not in keys
    if given.suffix == '.json':
        return not _is_json_config(given)
    return given.suffix.lower() in _ANNOTATIONS or archive_suffix(given) is not None


def _is_json_config(path: Path) -> bool:
    """Whether a JSON file is a config or cannot be parsed, which is an error of the config then."""
    if path.stat().st_size > _LARGEST_CONFIG:
        return False
    try:
        content = json.loads(path.read_bytes())
    except ValueError:
        return True
    return isinstance(content, dict) and not content.keys().isdisjoint(('model', '_base_'))


def init_for_training(data: Path, options: argparse.Namespace) -> Path:
    """Return the folder that ``vitdet init DATA`` writes; one that it has written is used again.

    Args:
        data: The data set.
        options: Command line with the options of :func:`add_data_options`, ``weights`` and ``seed``.

    Raises:
        UserError: The data set cannot be used, or the checks have found errors; nothing remains written then.
    """
    from vitdet_plugin.datasets.archives import folder_of_archive
    from vitdet_plugin.datasets.own_data.config_text import comment_text
    from vitdet_plugin.datasets.own_data.writer import default_out, is_free, recorded_options
    from vitdet_plugin.errors import UserError
    out, given = default_out(folder_of_archive(data), Path.cwd()), given_options(options)
    if (recorded := recorded_options(out, data)) is not None:
        if given and comment_text(given) != recorded:
            raise UserError(f'{shown_folder(out)} was written for this data set with {recorded or "the defaults"}; '
                            f'remove or rename it to read the data again with {given}')
        print(f'{shown_folder(out)} was written for this data set before; remove it to read the data again', flush=True)
        return out
    if not is_free(out):
        raise UserError(f'{shown_folder(out)} exists and was not written for {data}; remove it, or run "vitdet init" '
                        'with another --out and train on that')
    args = build_parser().parse_args([str(data)])
    for name in (*DATA_OPTIONS, 'weights'):
        setattr(args, name, getattr(options, name))
    args.seed = options.seed or 0
    written = _read_and_write(args)
    assert written is not None
    if written.errors:
        shutil.rmtree(out)
        raise UserError(f'{_found(written.errors)}: correct the data, and start again')
    return out


def _found(errors: int) -> str:
    from vitdet_plugin.utils.text import counted
    return f'the checks above found {counted(errors, "error")}'


@dataclass(frozen=True)
class _Written:
    """What was written: the folder, the plan, and the number of errors that its checks have found."""

    out: Path
    plan: 'Plan'
    errors: int


def _read_and_write(args: argparse.Namespace) -> _Written | None:
    """Read a data set and write a folder to train from; None for a dry run."""
    from vitdet_plugin.datasets.archives import unpacked
    from vitdet_plugin.errors import UserError
    data = Path(args.data).expanduser()
    if not data.exists():
        raise UserError(f'{args.data} does not exist; give the folder of a data set, its annotation file or its '
                        'archive')
    _check_numbers(args)
    with unpacked(data, is_temporary=args.dry_run) as folder:
        return _init(args, data, folder)


def _init(args: argparse.Namespace, given: Path, data: Path) -> _Written | None:
    """See :func:`_read_and_write`.

    Args:
        args: Options.
        given: What the user named.
        data: The same, or the folder of its files if it is an archive.
    """
    from vitdet_plugin.datasets.conversion import check_class_names
    from vitdet_plugin.datasets.formats import recognize
    from vitdet_plugin.datasets.formats.base import LastResort
    from vitdet_plugin.datasets.formats.tree import FileTree
    from vitdet_plugin.datasets.own_data.class_names import name_classes
    from vitdet_plugin.datasets.own_data.description import describe_plan
    from vitdet_plugin.datasets.own_data.machine import find_machine
    from vitdet_plugin.datasets.own_data.plan import Choices, make_plan
    from vitdet_plugin.datasets.own_data.writer import check_out, default_out, first_line, write_plan
    from vitdet_plugin.errors import UserError
    from vitdet_plugin.utils.paths import check_output_path
    from vitdet_plugin.utils.text import escape
    out = Path(args.out).expanduser() if args.out else default_out(data, Path.cwd())
    check_output_path('--out', out, is_folder=True)
    if not args.dry_run:
        check_out(out, data, '--out' if args.out else 'the folder for the results,')
    tree = FileTree(data)
    found, evidence = recognize(tree, args.format)
    if data.is_file() and isinstance(evidence, LastResort):
        fault = ''.join(f' ({error})' for error in tree.json_errors.values())
        raise UserError(f'{data} is not an annotation file of a known format{fault}; give the folder of the data set '
                        f'to read it as {found.name}')
    print(f'{"format":<10} {found.name}: {escape(evidence)}', flush=True)
    source = found.read(tree)
    if args.classes:
        name_classes(source, args.classes)
    check_class_names(source.classes, data)
    names = {name: getattr(args, name) for name in Choices.__dataclass_fields__}
    plan = make_plan(source, Choices(**names), find_machine())
    for subject, text in describe_plan(plan):
        print(escape(f'{subject:<10} {text}'))
    for note in source.notes:
        print(f'note: {escape(note)}')
    if args.dry_run:
        _print_problems(plan.problems, None)
        print(f'nothing was written (--dry-run); the folder would be {out}')
        return None
    sizes = ', '.join(f'{len(images)} {name}' for name, images in plan.splits.items())
    written = write_plan(plan, out, first_line(given, f'({found.name}): {sizes} images, {len(plan.classes)} classes.',
                                               given_options(args)))
    print(f'\n{out}: {", ".join(written)}')
    _print_problems(plan.problems, out)
    return _Written(out, plan, _check(out, plan))


def _check_numbers(args: argparse.Namespace) -> None:
    from vitdet_plugin.errors import UserError
    check_at_least(args, image_size=32, tile=32, batch=1, iters=1, epochs=1)
    if args.val_fraction is not None and not 0 < args.val_fraction < 1:
        raise UserError(f'--val-fraction {args.val_fraction:g}: give a share above 0 and below 1')


def _print_problems(problems: Sequence[Any], out: Path | None) -> None:
    if not problems:
        return
    where = f', listed in {out / "problems.txt"}' if out else ''
    print(f'{len(problems)} object{"s or files" if len(problems) > 1 else " or file"} could not be converted{where}:')
    for each in problems[:_SHOWN]:
        print(f'  {each}')
    if len(problems) > _SHOWN:
        print(f'  … and {len(problems) - _SHOWN} more')


def _check(out: Path, plan: 'Plan') -> int:
    """Check what was written, print what was found and return the number of errors."""
    from vitdet_plugin.cli.check import print_findings
    from vitdet_plugin.datasets.checks.whole_set import check_config
    print('\nchecks')
    rows = [row for split, _ in plan.splits.items()
            for row in check_config(str(out / 'config.py'), split, os.cpu_count() or 1, plan.splits.probes)]
    return print_findings(rows, 3)


def _print_next(out: Path, plan: 'Plan') -> None:
    tile = f' --tile {plan.choices.tile}' if plan.choices.tile else ''
    shown, samples = shown_folder(out), shown_folder(out / 'samples')
    print_commands((f'vitdet browse {shown} --out {samples}', 'look at augmented images'),
                   (f'vitdet train {shown}', 'train; Ctrl-C keeps what is learned, --resume continues'),
                   *commands_after_training(out, tile))


def commands_after_training(out: Path, options: str = '') -> tuple[tuple[str, str], ...]:
    """Return commands for a folder of ``vitdet init``, each with what it is for."""
    return ((f'vitdet report {shown_folder(out)}', 'what the best checkpoint gets right and wrong'),
            (f'vitdet predict {shown_folder(out / "run")} IMAGES{options}', 'use it'))


def print_commands(*commands: tuple[str, str]) -> None:
    """Print what the user can do next."""
    width = max(len(command) for command, _ in commands)
    print('\nnext')
    for command, what in commands:
        print(f'  {command:<{width}}  # {what}')
    sys.stdout.flush()


def shown_folder(path: Path) -> str:
    """Return a folder as a shell takes it, relative to the current folder if it is below it."""
    return shlex.quote(str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path))


def _models() -> str:
    width = max(map(len, MODELS))
    lines = [f'  {each.name:<{width}}  {each.task:<8}  {each.summary}' for each in MODELS.values()]
    return '\n'.join(['models (tiny: the small one of the task):', *lines])
