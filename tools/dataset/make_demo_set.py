"""Write the demo set: COCO-format pictures of drawn objects on photographs that installed packages ship.

python tools/dataset/make_demo_set.py --out data/demo
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, default=ROOT / 'data' / 'demo', metavar='DIR',
                        help='folder to write to (default: data/demo)')
    parser.add_argument('--train', type=int, default=2000, metavar='N', help='training pictures (default: 2000)')
    parser.add_argument('--val', type=int, default=100, metavar='N', help='validation pictures (default: 100)')
    parser.add_argument('--pretrain', type=int, default=0, metavar='N',
                        help='pictures for pre-training, on photographs of their own (default: none; 4000 is usual)')
    parser.add_argument('--size', type=int, default=160, metavar='PX', help='longest side (default: 160)')
    parser.add_argument('--seed', type=int, default=0, help='same seed, same pictures (default: %(default)s)')
    return parser


def main(argv: list[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    sys.path.insert(0, str(ROOT))
    from vitdet_plugin.demo.demo_set import write_demo_set
    from vitdet_plugin.errors import UserError
    from vitdet_plugin.utils.paths import check_output_path
    try:
        check_output_path('--out', args.out, is_folder=True)
        written = write_demo_set(args.out, args.train, args.val, args.pretrain, args.size, args.seed)
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    for split, path in written.items():
        print(f'{split}: {getattr(args, split)} pictures in {args.out / split}, annotations in {path}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
