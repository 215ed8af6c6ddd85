"""``vitdet predict CONFIG CHECKPOINT INPUT… --out DIR``: detect objects in images, or classify them."""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from vitdet_plugin.cli.common import add_config_argument, add_config_options, parse, run


def build_parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, description='Detect objects in images and draw them, or classify images; a classifier also writes a '
                               'CSV file.')
    add_config_argument(parser)
    parser.add_argument('checkpoint', help='checkpoint file (ours, detectron2 .pkl, mmdet, EasyCV) or a work directory')
    parser.add_argument('inputs', nargs='+', metavar='INPUT', help='images, folders of images, patterns and videos')
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


def predict_command(args: argparse.Namespace) -> int:
    from vitdet_plugin.api import Inferencer
    from vitdet_plugin.errors import UserError
    from vitdet_plugin.utils.paths import check_output_path
    check_output_path('--out', args.out, is_folder=True)
    model = Inferencer.load(args.config, args.checkpoint, args.device, args.cfg_options)
    out = Path(args.out)
    faults: list[str] = []
    results = model.predict_each(args.inputs, args.score_thr, None if args.no_images else out, True, faults.append)
    record = record_classes if model.is_classifier else record_objects
    count = record(results, out, args.top)
    if len(faults) == 1 and not count:
        raise UserError(faults[0])
    for fault in faults:
        print(f'left out: {fault}', file=sys.stderr)
    if faults and not count:
        raise UserError(f'none of the {len(faults)} images can be read')
    if faults:
        print(f'{len(faults)} of {count + len(faults)} images were left out: they cannot be read', file=sys.stderr)
    return 1 if faults else 0


def record_objects(results: Iterable, out: Path, _top: int) -> int:
    """Print and write the detections of every image; return the number of images."""
    has_masks, records = False, []
    for found in results:
        print(f'{_name(found)}: {len(found)} objects' + ''.join(
            f', {name} {score:.2f}' for name, score in zip(found.names[:5], found.scores)), flush=True)
        has_masks = has_masks or found.masks is not None
        records.append(found.as_dict())  # masks are encoded: those of many images would not fit into memory
    if records:
        path = _write_json(out, records)
        print(f'{len(records)} images in {out}, boxes{" and masks" if has_masks else ""} in {path}')
    return len(records)


def record_classes(results: Iterable, out: Path, top: int) -> int:
    """Print and write the classes of every image, in predictions.json the ``top`` most likely ones; return the number
    of images.
    """
    from vitdet_plugin.evaluation.prediction_file import write_prediction_csv
    records, rows = [], []
    for found in results:
        print(f'{_name(found)}: {found.name} {found.score:.2f}', flush=True)
        records.append(found.as_dict(top))
        rows.append(dict(file=_name(found), score=found.score, **{'class': found.name}))
    if records:
        path = _write_json(out, records)
        write_prediction_csv(out / 'predictions.csv', rows)
        print(f'{len(records)} images: classes in {out / "predictions.csv"} and {path}')
    return len(records)


def _name(found: Any) -> str:
    return found.path if found.frame is None else f'{found.path} frame {found.frame}'


def _write_json(out: Path, records: list[dict]) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    path = out / 'predictions.json'
    path.write_text(json.dumps(records))
    return path
