"""``vitdet convert IN OUT``: convert a checkpoint; ``vitdet convert to-coco …``: convert annotations."""

import argparse
import sys
from collections.abc import Sequence

from vitdet_plugin.cli import convert_dataset
from vitdet_plugin.cli.arguments import parse
from vitdet_plugin.cli.checks import check_at_least
from vitdet_plugin.cli.process import run

DESCRIPTION = """Convert a checkpoint of any supported format to the names of this project.

The format is recognized by the names of the weights: MAE, detectron2's ViTDet, mmdet's projects/ViTDet, EasyCV, SAM,
timm, Hugging Face, and those of the other families. Nothing in IN is executed."""
DATASETS = """Annotations: vitdet convert {to-coco,voc-to-coco,yolo-to-coco,coco-to-yolo,coco-to-voc} --help"""



def build_parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=prog, description=DESCRIPTION, epilog=DATASETS,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', metavar='IN', help='.pth, .pt, .th, .pth.tar, .bin, .pkl (detectron2), .safetensors')
    parser.add_argument('target', metavar='OUT', help='file to write')
    parser.add_argument('--to', choices=('mmdet', 'safetensors'),
                        help='mmdet: a .pth that mmengine loads; default: by the suffix of OUT')
    parser.add_argument('--config', help="adapt the weights to this config's model; unexpected weights are an error")
    parser.add_argument('--as', dest='form', metavar='FORMAT',
                        help="read as this format, for example 'EasyCV ViTDet, scaled rel_pos' (its first version)")
    parser.add_argument('--key', metavar='NAME',
                        help='where in IN the weights are, for example model or model_ema (default: averaged weights '
                             'before others; the report says which)')
    parser.add_argument('--prefix', metavar='NAME.',
                        help='take the weights whose names start with this, without it, for example teacher.backbone.')
    parser.add_argument('--allow', nargs='+', default=[], metavar='NAME',
                        help='weights without a conversion rule that may be left out; * matches anything')
    parser.add_argument('--patch-size', type=int, default=16, metavar='PX',
                        help='without --config, resize patch embeddings of plain ViTs to this; 0: leave (default: 16)')
    parser.add_argument('--classes-from', metavar='FILE',
                        help='class names in the order of the weights: text, or the categories of a COCO file')
    parser.add_argument('--classes-to', metavar='FILE', help='class names in the target order, likewise')
    parser.add_argument('--trust', action='store_true',
                        help='DANGEROUS: read IN with full pickle, which runs code in it; only for files you wrote')
    return parser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] in convert_dataset.CONVERSIONS:
        return convert_dataset.main(words, prog)
    return run(parse(build_parser(prog), words), convert_command)


def convert_command(args: argparse.Namespace) -> None:
    import contextlib

    from vitdet_plugin.checkpoints.converter import convert_checkpoint
    from vitdet_plugin.compat.file_kinds import WEIGHT_SUFFIXES
    from vitdet_plugin.compat.safe_load import trusted
    from vitdet_plugin.datasets.coco import classes_of_file
    from vitdet_plugin.engine.load_model import load_model, load_model_of_classes
    from vitdet_plugin.errors import UserError
    from vitdet_plugin.utils.paths import check_output_path
    from vitdet_plugin.utils.track import working
    check_output_path('OUT', args.target, is_folder=False, suffixes=WEIGHT_SUFFIXES)
    check_at_least(args, patch_size=0)
    if bool(args.classes_from) != bool(args.classes_to):
        raise UserError('--classes-from and --classes-to belong together: give both or none')
    names = (classes_of_file(args.classes_from), classes_of_file(args.classes_to)) if args.classes_from else None
    model = rows = None
    if names and args.config:
        model, rows = load_model_of_classes(args.config, *map(len, names))
    elif args.config:
        model = load_model(args.config, device='cpu', expects_random=True).model
    # the only caller of trusted()
    with trusted() if args.trust else contextlib.nullcontext(), working('converting the weights'):
        report = convert_checkpoint(args.source, args.target, to=args.to, model=model, form=args.form,
                                    allow_unexpected=args.allow, patch_size=args.patch_size or None, classes=names,
                                    rows=rows, key=args.key, prefix=args.prefix)
    print(report)
    print(f'written: {args.target}')
