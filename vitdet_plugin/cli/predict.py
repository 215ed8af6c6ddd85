"""``vitdet predict MODEL INPUT… --out DIR``: detect objects in images, or classify them."""

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from vitdet_plugin.cli.arguments import PREDICTION_VALUES, add_config_options, add_prediction_options, parse
from vitdet_plugin.cli.model_words import split_model
from vitdet_plugin.cli.process import print_precision, run
from vitdet_plugin.prediction.format_names import FILES
from vitdet_plugin.utils.text import counted, escape


def build_parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, formatter_class=argparse.RawDescriptionHelpFormatter, description=_DESCRIPTION)
    parser.add_argument('model', metavar='MODEL', help='work directory of a training (its config and best checkpoint), '
                        'checkpoint in one, file of "vitdet export" (.onnx, .xml), or CONFIG '
                        'CHECKPOINT')
    parser.add_argument('inputs', nargs='+', metavar='INPUT',
                        help='images, folders, patterns, videos, text files with a path per line, http(s) URLs, '
                             'cameras (camera:0), or - for a list of paths on standard input')
    parser.add_argument('--out', '--out-dir', default='predictions', metavar='DIR',
                        help='folder for the files with results and the drawn images and videos (default: predictions)')
    parser.add_argument('--format', dest='formats', action='append', metavar='FORMAT',
                        help=f'{", ".join(FILES)}; several separated by commas (default: json, and csv for a '
                             'classifier)')
    parser.add_argument('--score-thr', type=float, default=0.3, metavar='S', help='lowest score kept (default: 0.3)')
    parser.add_argument('--batch', '--batch-size', dest='batch', default='auto', metavar='N',
                        help='images that are predicted at once, if their inputs have the same shape; auto: by their '
                             'size and the device (default: auto)')
    add_prediction_options(parser)
    parser.add_argument('--top', type=int, default=5, metavar='N',
                        help='classes per image in JSON files of a classifier (default: 5)')
    parser.add_argument('--save-conf', action='store_true', help="append the score to the lines of YOLO's files")
    drawing = parser.add_mutually_exclusive_group()
    drawing.add_argument('--draw', action='store_true', help='draw the results (the default)')
    drawing.add_argument('--no-draw', '--no-images', '--no-pictures', action='store_true',  # language: ok
                         help='write the records only')
    add_config_options(parser)
    return parser


_DESCRIPTION = """\
Detect objects in images, or classify them; write and draw the results.

  vitdet predict work_dirs/NAME INPUT...
  vitdet predict model.onnx INPUT...
  vitdet predict CONFIG CHECKPOINT INPUT...
"""


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    parser = build_parser(prog)
    args = parse(parser, argv, PREDICTION_VALUES, is_intermixed=True)
    return run(args, predict_command, split_model)


def predict_command(args: argparse.Namespace) -> int:
    from vitdet_plugin.api import Inferencer
    from vitdet_plugin.errors import Interrupted, UserError
    from vitdet_plugin.prediction.writers import check_formats
    from vitdet_plugin.utils.paths import check_output_path
    from vitdet_plugin.utils.stop_signals import stop_signals
    from vitdet_plugin.utils.track import working
    check_output_path('--out', args.out, is_folder=True)
    formats = check_formats([name for words in args.formats or () for name in words.split(',') if name])
    batch = _batch_size(args.batch)
    faults: list[str] = []
    with stop_signals() as signals:
        signals.situation = ' before the first image; nothing was written'
        with working('loading the model'):
            model = Inferencer.load(args.config or args.model, args.checkpoint, args.device, args.cfg_options or (),
                                    args.half, args.dtype, args.threads)
        print_precision(model.precision, args.half, args.dtype)
        formats = check_formats(formats or (['json', 'csv'] if model.is_classifier else ['json']), model.is_classifier)
        signals.is_deferred = True  # a result that is being written is completed
        done = [0]
        results = model.save(args.inputs, args.out, formats, score_thr=args.score_thr, draw=not args.no_draw,
                             top=args.top, save_conf=args.save_conf, progress=True, on_fault=faults.append,
                             batch_size=batch, tile=args.tile, overlap=args.overlap,
                             on_step=lambda: _stop_if_asked(signals, done[0], args.out))
        try:
            objects, has_masks = _print_results(results, done)
        except Interrupted:
            _print_faults(faults)
            raise
    count = done[0]
    if len(faults) == 1 and not count:
        raise UserError(faults[0])
    _print_faults(faults)
    if faults and not count:
        raise UserError(f'none of the {len(faults)} images can be read')
    if count:
        print(_summary(count, Path(args.out), formats, model.is_classifier, has_masks))
        if not model.is_classifier and not objects and args.score_thr > 0:
            print(f'no object has a score of {args.score_thr:g} or more; --score-thr {args.score_thr / 6:.2g} keeps '
                  'more of them', file=sys.stderr)
    if faults:
        reason = ': they cannot be read' if all(' cannot be ' in fault for fault in faults) else ''
        print(f'{len(faults)} of {count + len(faults)} images were left out{reason}', file=sys.stderr)
    return 1 if faults else 0


def _batch_size(word: str) -> int | str:
    from vitdet_plugin.errors import UserError
    if word == 'auto':
        return word
    if not word.isdecimal() or not int(word):
        raise UserError(f'--batch {word}: give a number of images, or auto')
    return int(word)


def _stop_if_asked(signals: Any, count: int, out: str) -> None:
    from vitdet_plugin.errors import Interrupted
    from vitdet_plugin.utils.stop_signals import NAMES
    if signals.received is not None:
        kept = f'the results of {counted(count, "image")} are in {out}' if count else 'nothing was written'
        raise Interrupted(f'stopped by {NAMES[signals.received]}; {kept}', 128 + signals.received)


def _print_results(results: Iterable[Any], done: list[int]) -> tuple[int, bool]:
    """Print a line for every result and count them in ``done``; return how many objects there were, and any masks."""
    from vitdet_plugin.prediction.results import Classification, name_of
    objects, has_masks = 0, False
    for found in results:
        done[0] += 1
        if isinstance(found, Classification):
            print(escape(f'{name_of(found)}: {found.name} {found.score:.2f}'), flush=True)
            continue
        objects += len(found)
        has_masks = has_masks or found.rles is not None
        best = ''.join(f', {name} {score:.2f}' for name, score in zip(found.names[:5], found.scores))
        print(escape(f'{name_of(found)}: {counted(len(found), "object")}{best}'), flush=True)
    return objects, has_masks


def _print_faults(faults: Iterable[str]) -> None:
    for fault in faults:
        print(f'left out: {escape(fault)}', file=sys.stderr)


def _summary(count: int, out: Path, formats: Sequence[str], is_classifier: bool, has_masks: bool) -> str:
    paths = [str(out / FILES[name]) for name in sorted(formats, key='csv'.__ne__)]
    where = ', '.join(paths[:-1]) + ' and ' * (len(paths) > 1) + paths[-1]
    if is_classifier:
        return f'{counted(count, "image")}: classes in {where}'
    return f'{counted(count, "image")} in {out}, boxes{" and masks" if has_masks else ""} in {where}'
