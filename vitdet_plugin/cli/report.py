"""``vitdet report CONFIG CHECKPOINT --out DIR``: what a model gets right and wrong."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from vitdet_plugin.cli.common import add_config_options, add_model_arguments, parse, run


def build_parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, description='Classifiers: precision, recall and F1 of each class, confusion matrix, worst mistakes. '
                               'Detectors: AP and precision-recall curve of each class, confusion matrix, types of '
                               'errors.')
    add_model_arguments(parser, optional=True)
    parser.add_argument('--split', choices=('test', 'val', 'train'), default='test',
                        help='data loader of the config to use (default: test)')
    parser.add_argument('--out', metavar='DIR', help='folder for report.txt, report.json and figures (default: report '
                                                     'in the folder that stands for config and checkpoint)')
    parser.add_argument('--score-thr', type=float, default=0.3, metavar='S',
                        help='detectors: lowest score for confusion matrix and types of errors (default: 0.3)')
    parser.add_argument('--batch-size', type=int, default=32, metavar='N', help='classifiers: images per batch')
    add_config_options(parser)
    return parser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    return run(parse(build_parser(prog), argv), report_command)


def report_command(args: argparse.Namespace) -> None:
    from vitdet_plugin.engine.load_model import load_model
    from vitdet_plugin.errors import UserError
    from vitdet_plugin.utils.paths import check_output_path
    from vitdet_plugin.visualization.report_figures import draw_classifier_report, draw_detector_report
    if args.out is None and not Path(args.config).is_dir():
        raise UserError('--out is missing; give a folder for the report')
    args.out = args.out or str(Path(args.config) / 'report')
    check_output_path('--out', args.out, is_folder=True)
    loaded, out = load_model(args.config, args.checkpoint, args.device, args.cfg_options), Path(args.out)
    if loaded.is_classifier:
        from vitdet_plugin.evaluation.classifier_report import classifier_report
        report = classifier_report(loaded, args.split, args.batch_size)
    else:
        from vitdet_plugin.evaluation.detector_report import detector_report
        report = detector_report(loaded, args.split, args.score_thr)
    print(report)
    draw = draw_classifier_report if loaded.is_classifier else draw_detector_report
    figures = draw(report, out)
    (out / 'report.txt').write_text(f'{report}\n', encoding='utf-8')
    record = dict(config=args.config, checkpoint=str(loaded.checkpoint), split=args.split, **report.as_dict())
    (out / 'report.json').write_text(json.dumps(record, indent=1), encoding='utf-8')
    print(f'\nreport.txt, report.json, {", ".join(path.name for path in figures)} in {out}')
