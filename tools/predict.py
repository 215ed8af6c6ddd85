#!/usr/bin/env python
"""Find objects in pictures of one's own, or classify them: ``tools/predict.py CONFIG CHECKPOINT INPUT… --out DIR``."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from _cli import add_config_options, parse, run, use_checkout


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description='Draw what a model finds in pictures; a classifier also writes a CSV.')
    parser.add_argument('config', help='config file, or the name of one of this project (vitdet_demo)')
    parser.add_argument('checkpoint', help='checkpoint file (ours, detectron2 .pkl, mmdet, EasyCV) or a work directory')
    parser.add_argument('inputs', nargs='+', metavar='INPUT', help='pictures and folders of pictures')
    parser.add_argument('--out', '--out-dir', required=True, metavar='DIR',
                        help='folder for the drawn pictures and predictions.json, of a classifier predictions.csv too')
    parser.add_argument('--score-thr', type=float, default=0.3, metavar='S', help='lowest score kept (default: 0.3)')
    parser.add_argument('--top', type=int, default=5, metavar='N',
                        help='classes of a picture in predictions.json of a classifier (default: 5)')
    parser.add_argument('--no-pictures', action='store_true', help='write the records only')
    add_config_options(parser)
    return parser


def record_objects(results: list, out: Path, _top: int) -> None:
    for found in results:
        print(f'{found.path}: {len(found)} objects' + ''.join(
            f', {name} {score:.2f}' for name, score in zip(found.names[:5], found.scores)), flush=True)
    record = out / 'predictions.json'
    record.write_text(json.dumps([found.as_dict() for found in results]))
    print(f'{len(results)} pictures in {out}, boxes and masks in {record}')


def record_classes(results: list, out: Path, top: int) -> None:
    from vitdet_plugin.evaluation.prediction_file import write_prediction_csv
    for found in results:
        print(f'{found.path}: {found.name} {found.score:.2f}', flush=True)
    (out / 'predictions.json').write_text(json.dumps([found.as_dict(top) for found in results]))
    write_prediction_csv(out / 'predictions.csv', [dict(file=found.path, score=found.score, **{'class': found.name})
                                                   for found in results])
    print(f'{len(results)} pictures: classes in {out / "predictions.csv"} and {out / "predictions.json"}')


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(build_parser(), argv)
    use_checkout()

    def action() -> None:
        from vitdet_plugin.api import Inferencer
        from vitdet_plugin.utils.paths import check_output_path
        check_output_path('--out', args.out, is_folder=True)
        model = Inferencer.load(args.config, args.checkpoint, args.device, args.cfg_options)
        results = model.predict(args.inputs, args.score_thr, None if args.no_pictures else args.out, progress=True)
        Path(args.out).mkdir(parents=True, exist_ok=True)
        (record_classes if model.is_classifier else record_objects)(results, Path(args.out), args.top)

    return run(action)


if __name__ == '__main__':
    sys.exit(main())
