"""``vitdet report RUN_DIR``: what a model gets right and wrong, as one HTML page, figures and text."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vitdet_plugin.cli.arguments import add_config_options, add_model_arguments, parse
from vitdet_plugin.cli.checks import check_at_least
from vitdet_plugin.cli.process import run

PAGE = 'report.html'
_LOGS = ('*/vis_data/scalars.json', 'run/*/vis_data/scalars.json')


def build_parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, description='Write one HTML page about a run: curves of the training, results of each class, '
                               'confusion matrix, errors, worst images, activation maps, data set, environment and '
                               'config; also figures, report.txt and report.json.')
    add_model_arguments(parser, optional=True)
    parser.add_argument('--split', choices=('test', 'val', 'train'),
                        help='data loader of the config to use (default: test, or val if there is no test)')
    parser.add_argument('--out', metavar='DIR', help=f'folder for {PAGE}, report.txt, report.json and figures, or '
                                                     'FILE.html for the page alone (default: report in the folder that '
                                                     'stands for config and checkpoint)')
    parser.add_argument('--results', metavar='FILE',
                        help='predictions of "vitdet test --out FILE.json" for this split: they are not computed again')
    parser.add_argument('--score-thr', type=float, default=0.3, metavar='S',
                        help='detectors: lowest score for confusion matrix and types of errors (default: 0.3)')
    parser.add_argument('--images', type=int, default=8, metavar='N',
                        help='worst images on the page; three times as many for a classifier (default: 8)')
    parser.add_argument('--maps', type=int, default=4, metavar='N',
                        help='images with activation maps on the page (default: 4)')
    parser.add_argument('--batch-size', type=int, default=32, metavar='N', help='classifiers: images per batch')
    add_config_options(parser)
    return parser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    return run(parse(build_parser(prog), argv), report_command, _find_checkpoint)


def report_command(args: argparse.Namespace) -> None:
    from vitdet_plugin.config.loading import load_config
    from vitdet_plugin.engine.load_model import load_model, pick_device
    from vitdet_plugin.prediction.compact_masks import compact_masks
    from vitdet_plugin.utils.output import warn
    from vitdet_plugin.utils.output_files import write_text
    from vitdet_plugin.utils.running_command import running_command
    from vitdet_plugin.visualization.html_report.environment import device_name
    from vitdet_plugin.visualization.html_report.report import Subject, build_page
    folder, page = _outputs(args)
    device = pick_device(args.device)
    subject = Subject(load_config(args.config, args.cfg_options), _work_dir(args), results=args.results,
                      device=device_name(device), command=running_command(), images=args.images, maps=args.maps)
    split, subject.no_evaluation = _choose_split(args, subject.cfg)
    if not args.no_checkpoint and (args.maps or not args.results):
        subject.loaded = load_model(subject.cfg, args.checkpoint, device)
        subject.cfg = subject.loaded.cfg
    if split is None:
        warn(f'the evaluation is left out: {subject.no_evaluation}')
    elif subject.loaded is None or subject.loaded.is_classifier:
        _evaluate(args, subject, split)
    else:
        with compact_masks(subject.loaded.model, 0.0):  # one mask at a time in memory
            _evaluate(args, subject, split)
    written = _write_files(args, subject, folder) if folder is not None else []
    write_text(page, build_page(subject))
    print(f'\n{page}' if folder is None else f'\n{", ".join([page.name, *written])} in {folder}')


def _find_checkpoint(args: argparse.Namespace) -> None:
    """Set ``no_checkpoint`` to why a run that has curves has none to evaluate; '' if it has one, or nothing at all."""
    from vitdet_plugin.errors import UserError
    args.no_checkpoint = ''
    folder = Path(args.config).expanduser()
    if args.checkpoint is not None or not folder.is_dir():
        return
    from vitdet_plugin.prediction.run_folder import checkpoint_folder
    try:
        checkpoint_folder(folder)
    except UserError as error:
        if any(any(folder.glob(pattern)) for pattern in _LOGS):
            del args.checkpoint  # it is not required
            args.no_checkpoint = str(error)


def _outputs(args: argparse.Namespace) -> tuple[Path | None, Path]:
    """Return the folder of the other files, None if only the page is written, and the file of the page."""
    from vitdet_plugin.errors import UserError
    from vitdet_plugin.utils.paths import check_output_path
    if args.out is None and not Path(args.config).is_dir():
        raise UserError('--out is missing; give a folder for the report')
    check_at_least(args, images=0, maps=0, batch_size=1)
    if args.results and not Path(args.results).is_file():
        what = 'is a folder' if Path(args.results).is_dir() else 'does not exist'
        raise UserError(f'--results {args.results} {what}; write it with vitdet test --out FILE.json')
    out = Path(args.out or Path(args.config) / 'report')
    is_page = out.suffix.lower() in ('.html', '.htm') and not out.is_dir()
    check_output_path('--out', out, is_folder=not is_page)
    return (None, out) if is_page else (out, out / PAGE)


def _work_dir(args: argparse.Namespace) -> Path | None:
    """Return the folder of the training run that the checkpoint belongs to, or None."""
    folder = Path(args.config).expanduser()
    if not folder.is_dir():
        path = Path(args.checkpoint).expanduser()
        return path if path.is_dir() else path.parent if path.is_file() else None
    inner = folder / 'run'
    return inner if inner.is_dir() and not any(folder.glob(_LOGS[0])) else folder


def _choose_split(args: argparse.Namespace, cfg: Any) -> tuple[str | None, str]:
    """Return the split to evaluate, or None and the reason why there is none."""
    from vitdet_plugin.visualization.html_report.data_facts import missing_files
    if args.no_checkpoint and not args.results:
        return None, args.no_checkpoint
    if args.split:
        return args.split, ''
    split = next((name for name in ('test', 'val') if cfg.get(f'{name}_dataloader') is not None), None)
    if split is None:
        return None, f'config {cfg.filename} has neither test_dataloader nor val_dataloader'
    missing = missing_files(cfg, split)
    return (None, f'{missing[0]} of {split}_dataloader does not exist') if missing else (split, '')


def _evaluate(args: argparse.Namespace, subject: Any, split: str) -> None:
    """Set the predictions of a split and their evaluation, and print it."""
    from vitdet_plugin.config.registry import is_classifier
    from vitdet_plugin.utils.text import escape
    if is_classifier(subject.cfg):
        from vitdet_plugin.evaluation.classifications import classify_split, read_classifications
        from vitdet_plugin.evaluation.classifier_report import report_of_split as report_of_classes
        subject.split = (read_classifications(subject.cfg, split, args.results) if args.results else
                         classify_split(subject.loaded, split, args.batch_size))
        subject.report = report_of_classes(subject.split)
    else:
        from vitdet_plugin.evaluation.detections import detect_split, read_detections
        from vitdet_plugin.evaluation.detector_report import report_of_split
        subject.split = (read_detections(subject.cfg, split, args.results) if args.results else
                         detect_split(subject.loaded, split))
        subject.report = report_of_split(subject.split, args.score_thr)
    print(escape(str(subject.report)))


def _write_files(args: argparse.Namespace, subject: Any, folder: Path) -> list[str]:
    """Write the text, the record and the figures of an evaluation; return their names."""
    if subject.report is None:
        return []
    from vitdet_plugin.utils.output_files import write_text
    from vitdet_plugin.visualization.report_figures import draw_classifier_report, draw_detector_report
    is_classes = hasattr(subject.report, 'top1')
    figures = (draw_classifier_report if is_classes else draw_detector_report)(subject.report, folder)
    write_text(folder / 'report.txt', f'{subject.report}\n')
    checkpoint = str(subject.loaded.checkpoint) if subject.loaded and not args.results else None
    record = dict(config=args.config, checkpoint=checkpoint, split=subject.split.name, **subject.report.as_dict())
    write_text(folder / 'report.json', json.dumps(record, indent=1))
    return ['report.txt', 'report.json', *(path.name for path in figures)]
