"""``vitdet demo make-set``: write the demo data set."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from vitdet_plugin.cli.arguments import parse
from vitdet_plugin.cli.process import run
from vitdet_plugin.utils.text import counted


def build_parser(prog: str | None = None, root: Path = Path()) -> argparse.ArgumentParser:
    """Return the parser; relative default paths are below ``root``."""
    parser = argparse.ArgumentParser(
        prog=prog, description='Write the demo set: images in COCO format with drawn objects on photographs that '
                               'installed packages contain.')
    parser.add_argument('--out', type=Path, default=root / 'data/demo', metavar='DIR',
                        help='folder to write to (default: data/demo)')
    parser.add_argument('--train', type=int, default=2000, metavar='N', help='training images (default: 2000)')
    parser.add_argument('--val', type=int, default=100, metavar='N', help='validation images (default: 100)')
    parser.add_argument('--pretrain', type=int, default=0, metavar='N',
                        help='images for pre-training, on separate photographs (default: none; 4000 is usual)')
    parser.add_argument('--size', type=int, default=160, metavar='PX', help='longest side (default: 160)')
    parser.add_argument('--seed', type=int, default=0, help='the same seed gives the same images (default: 0)')
    return parser


def main(argv: Sequence[str] | None = None, prog: str | None = None, root: Path = Path()) -> int:
    return run(parse(build_parser(prog, root), argv), make_demo_set_command)


def make_demo_set_command(args: argparse.Namespace) -> None:
    from vitdet_plugin.demo.demo_set import write_demo_set
    from vitdet_plugin.utils.paths import check_output_path
    check_output_path('--out', args.out, is_folder=True)
    written = write_demo_set(args.out, args.train, args.val, args.pretrain, args.size, args.seed)
    for split, path in written.items():
        print(f'{split}: {counted(getattr(args, split), "image")} in {args.out / split}, annotations in {path}')
