#!/usr/bin/env python
"""Turn a checkpoint of any known format into one of this project's: ``convert.py IN OUT [--to mmdet|safetensors]``.

Formats are recognized by the names of the weights: MAE, detectron2's ViTDet, mmdet's projects/ViTDet, EasyCV, SAM,
timm, Hugging Face, and those of the other families. Nothing in IN is executed.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _cli import parse, run, use_checkout  # noqa: E402


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', metavar='IN', help='.pth, .pt, .bin, .pkl (detectron2) or .safetensors')
    parser.add_argument('target', metavar='OUT', help='file to write')
    parser.add_argument('--to', choices=('mmdet', 'safetensors'),
                        help="mmdet: a .pth that mmengine loads; default: what OUT's ending says")
    parser.add_argument('--config', help='fit the weights to the model of this config: sizes, and nothing left over')
    parser.add_argument('--as', dest='form', metavar='FORMAT',
                        help="read as this format, for example 'EasyCV ViTDet, scaled rel_pos' (its first version)")
    parser.add_argument('--allow', nargs='+', default=[], metavar='NAME',
                        help='weights that no rule knows and that may be left out; * stands for anything')
    parser.add_argument('--patch-size', type=int, default=16, metavar='PX',
                        help='without --config, resize patch embeddings of plain ViTs to this; 0: leave (default: 16)')
    parser.add_argument('--classes-from', metavar='FILE', help='class names in the order of the weights: text or COCO')
    parser.add_argument('--classes-to', metavar='FILE', help='class names in the order wanted; rows move by name')
    parser.add_argument('--trust', action='store_true',
                        help='DANGEROUS: read IN with full pickle, which runs code in it; only for files you wrote')
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(build_parser(), argv)
    use_checkout()

    def action() -> None:
        from vitdet_plugin.errors import UserError
        if bool(args.classes_from) != bool(args.classes_to):
            raise UserError('--classes-from and --classes-to belong together: give both or none')
        print(convert(args))
        print(f'written: {args.target}')

    return run(action)


def convert(args: argparse.Namespace):
    import contextlib

    from vitdet_plugin.checkpoints.classes import read_class_names
    from vitdet_plugin.checkpoints.converter import convert_checkpoint
    from vitdet_plugin.compat.safe_load import trusted
    from vitdet_plugin.engine.load_model import load_model
    names = (read_class_names(args.classes_from), read_class_names(args.classes_to)) if args.classes_from else None
    model = load_model(args.config, device='cpu').model if args.config else None
    with trusted() if args.trust else contextlib.nullcontext():  # the one place where a file may be trusted
        return convert_checkpoint(args.source, args.target, to=args.to, model=model, form=args.form,
                                  allow_unexpected=args.allow, patch_size=args.patch_size or None, classes=names)


if __name__ == '__main__':
    sys.exit(main())
