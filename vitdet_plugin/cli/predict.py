"""``vitdet predict CONFIG CHECKPOINT INPUT… --out DIR``: detect objects in images, or classify them."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from vitdet_plugin.cli.common import add_config_argument, add_config_options, parse, run


def build_parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, description='Detect objects in images and draw them, or classify images; a classifier also writes a '
                               'CSV file.')
    add_config_argument(parser)
    parser.add_argument('checkpoint', help='checkpoint file (ours, detectron2 .pkl, mmdet, EasyCV) or a work directory')
    parser.add_argument('inputs', nargs='+', metavar='INPUT', help='images and folders of images')
    parser.add_argument('--out', '--out-dir', required=True, metavar='DIR',
                        help='folder for the drawn images and predictions.json; for a classifier also predictions.csv')
    parser.add_argument('--score-thr', type=float, default=0.3, metavar='S', help='lowest score kept (default: 0.3)')
    parser.add_argument('--top', type=int, default=5, metavar='N',
                        help='classes per image in predictions.json of a classifier (default: 5)')
    parser.add_argument('--no-images', '--no-pictures', action='store_true',  # language: ok
                        help='write the records only')
    add_config_options(parser)
    return parser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    return run(parse(build_parser(prog), argv), predict_command)


def predict_command(args: argparse.Namespace) -> None:
    from vitdet_plugin.api import Inferencer
    from vitdet_plugin.utils.paths import check_output_path
    check_output_path('--out', args.out, is_folder=True)
    model = Inferencer.load(args.config, args.checkpoint, args.device, args.cfg_options)
    results = model.predict(args.inputs, args.score_thr, None if args.no_images else args.out, progress=True)
    Path(args.out).mkdir(parents=True, exist_ok=True)
    if model.is_classifier:
        record_classes(results, Path(args.out), args.top)
    else:
        record_objects(results, Path(args.out))


def record_objects(results: list, out: Path) -> None:
    """Print and write the detections of every image."""
    for found in results:
        print(f'{found.path}: {len(found)} objects' + ''.join(
            f', {name} {score:.2f}' for name, score in zip(found.names[:5], found.scores)), flush=True)
    record = out / 'predictions.json'
    record.write_text(json.dumps([found.as_dict() for found in results]))
    print(f'{len(results)} images in {out}, boxes and masks in {record}')


def record_classes(results: list, out: Path, top: int) -> None:
    """Print and write the classes of every image; the ``top`` most likely ones go to predictions.json."""
    from vitdet_plugin.evaluation.prediction_file import write_prediction_csv
    for found in results:
        print(f'{found.path}: {found.name} {found.score:.2f}', flush=True)
    (out / 'predictions.json').write_text(json.dumps([found.as_dict(top) for found in results]))
    write_prediction_csv(out / 'predictions.csv', [dict(file=found.path, score=found.score, **{'class': found.name})
                                                   for found in results])
    print(f'{len(results)} images: classes in {out / "predictions.csv"} and {out / "predictions.json"}')
