"""``vitdet bench MODEL [CHECKPOINT] [INPUT]``: latency, throughput and accuracy by backend, precision, batch."""

import argparse
import os
import re
from collections.abc import Sequence
from pathlib import Path

from vitdet_plugin.cli.arguments import add_config_options, parse
from vitdet_plugin.cli.process import run

BACKENDS = ('pytorch', 'onnxruntime', 'openvino')
DTYPES = ('fp32', 'bf16', 'fp16')
_LEAST_ROUNDS, _MOST_ROUNDS = 5, 10_000
_WARMUP = 2


def build_parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, description='Measure latency and throughput of a model by backend, precision, threads, batch and '
                               'input size. The rows are measured in turn; times are medians, end to end.')
    parser.add_argument('model', metavar='MODEL', help='work directory of a training, checkpoint in one, config (with '
                        'random weights without CHECKPOINT), .onnx file or .xml file of OpenVINO')
    parser.add_argument('words', nargs='*', metavar='INPUT', help='after a config: its checkpoint; then an image or a '
                        'folder to predict (default: the test set if it exists, else noise)')
    parser.add_argument('--backends', default=','.join(BACKENDS), metavar='LIST',
                        help=f'some of {", ".join(BACKENDS)} (default: all)')
    parser.add_argument('--compile', action='store_true', help='also PyTorch with a compiled backbone and neck')
    parser.add_argument('--file', dest='files', action='append', metavar='FILE', default=[],
                        help='exported file to measure, in place of one that is exported now; can be given repeatedly')
    parser.add_argument('--dtype', metavar='LIST', help='some of fp32, bf16, fp16 (default: fp32, and bf16 on a CPU '
                        'that has it or fp16 on a GPU)')
    parser.add_argument('--threads', metavar='LIST', help='numbers of threads: 1,2 (default: as PyTorch chooses)')
    parser.add_argument('--batch', default='1', metavar='LIST', help='numbers of images at once: 1,4 (default: 1)')
    parser.add_argument('--shape', metavar='LIST', help='sizes of the input: 320,480x640 (height x width; default: as '
                        'the test pipeline of the config returns)')
    parser.add_argument('--images', metavar='PATH', help='the same as INPUT')
    parser.add_argument('--data', nargs='?', const='all', metavar='N',
                        help='also the accuracy of each backend on the first N images of the test set (default: all)')
    parser.add_argument('--rounds', type=int, default=7, metavar='N', help='measurements of each row (default: 7)')
    parser.add_argument('--score-thr', type=float, default=0.3, metavar='S',
                        help='lowest score of objects that are kept (default: 0.3)')
    parser.add_argument('--out', metavar='FILE.csv', help='also write the table to this file')
    add_config_options(parser)
    return parser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    args = parse(build_parser(prog), argv, {'--data': lambda word: word.isdecimal() or word == 'all'},
                 is_intermixed=True)
    return run(args, bench_command, _split_words)


def _split_words(args: argparse.Namespace) -> None:
    """Set ``configs``, ``checkpoint`` and ``more`` by the words after the options."""
    if args.data == 'auto':  # a word that is not a number was left to the positional arguments
        args.data = 'all'
    from vitdet_plugin.checkpoints.work_dirs import holds_weights
    from vitdet_plugin.prediction.run_folder import stands_alone
    args.configs = [] if stands_alone(args.model) else [args.model]
    args.checkpoint, args.more = None, args.words
    if args.words and holds_weights(args.words[0]):
        args.checkpoint, *args.more = args.words


def bench_command(args: argparse.Namespace) -> int:
    import tempfile

    from vitdet_plugin.utils.paths import check_output_path
    backends, dtypes, threads, batches, shapes, count = _read_options(args)
    if args.out:
        check_output_path('--out', args.out, is_folder=False, suffixes=('.csv',))
    from vitdet_plugin.bench.rows import measure
    from vitdet_plugin.bench.session import Benchmark, Options
    from vitdet_plugin.bench.table import describe_machine, lines, write_csv
    from vitdet_plugin.errors import UserError
    from vitdet_plugin.utils.track import Progress
    options = Options(backends, dtypes, threads, batches, shapes, args.compile, args.images, args.files,
                      args.score_thr, args.device, args.cfg_options or ())
    with tempfile.TemporaryDirectory(prefix='vitdet-bench-') as folder:
        benchmark = Benchmark(args.model, args.checkpoint, options, Path(folder))
        machine = describe_machine(benchmark.device)
        print(', '.join(f'{key} {value}' for key, value in machine.items()), flush=True)
        metric = benchmark.evaluate(count) if args.data else None
        progress = Progress('rounds', args.rounds + _WARMUP)
        try:
            measure(benchmark.rows, args.rounds, _WARMUP, progress.update)
        finally:
            progress.close()
    print('\n'.join(lines(benchmark.rows, metric)))
    print(f'milliseconds for a batch, medians of {args.rounds} rounds' +
          (f'; load of the machine at the end {os.getloadavg()[0]:.2f}' if hasattr(os, 'getloadavg') else ''))
    if args.out:
        write_csv(args.out, args.model, benchmark.rows, metric, machine)
    if all(row.reason for row in benchmark.rows):
        raise UserError(f'no row could be measured: {benchmark.rows[0].reason}')
    return 0


def _read_options(args: argparse.Namespace) -> tuple:
    """Check the values of the options, before anything slow is imported."""
    from vitdet_plugin.errors import UserError
    from vitdet_plugin.prediction.run_folder import is_exported, stands_alone
    is_file = is_exported(args.model)
    for name in (*[args.model] * is_file, *args.files):
        if not os.path.isfile(name):
            raise UserError(f'{name} does not exist; write it with "vitdet export"')
        if not is_exported(name):
            raise UserError(f'--file {name}: give an .onnx file or an .xml file of OpenVINO')
    if is_file:
        wrong = [name for name, value in (('CHECKPOINT', args.checkpoint), ('--file', args.files),
                 ('--shape', args.shape), ('--data', args.data), ('--compile', args.compile),
                 ('--cfg-options', args.cfg_options)) if value]
        if wrong:
            raise UserError(f'{wrong[0]} cannot be used with an exported file; give its work directory in place of '
                            f'{args.model}, and the file with --file')
    elif args.checkpoint and not args.configs:
        raise UserError(f'{args.model} has its own checkpoint; leave {args.checkpoint} out, or give a config before it')
    elif not is_file and not args.configs and not stands_alone(args.model):
        raise UserError(f'{args.model} does not exist; give a work directory, a config or an exported file')
    for name in args.more:
        if not os.path.exists(name):
            raise UserError(f'{name} does not exist; give an image or a folder of images' + (
                ', or a checkpoint' if args.configs and not args.checkpoint else ''))
    if len(args.more) + bool(args.images) > 1:
        raise UserError(f'{(args.more + [args.images])[1]}: give one image or one folder of images')
    args.images = args.images or next(iter(args.more), None)
    backends = _words('--backends', args.backends, BACKENDS)
    dtypes = _words('--dtype', args.dtype, DTYPES) if args.dtype else None
    if args.compile and 'pytorch' not in backends:
        backends = ('pytorch', *backends)
    threads = _numbers('--threads', args.threads) if args.threads else [_default_threads()]
    batches = _numbers('--batch', args.batch)
    if args.rounds < _LEAST_ROUNDS:
        raise UserError(f'--rounds {args.rounds}: give at least {_LEAST_ROUNDS}, as fewer have no meaningful median')
    if args.rounds > _MOST_ROUNDS:
        raise UserError(f'--rounds {args.rounds}: give at most {_MOST_ROUNDS}')
    if args.images and not os.path.exists(args.images):
        raise UserError(f'--images {args.images} does not exist; give an image or a folder of images')
    count = None
    if args.data and args.data != 'all':
        count = _numbers('--data', args.data)[0]
    return backends, dtypes, threads, batches, _shapes(args.shape), count


def _words(option: str, text: str, known: Sequence[str]) -> tuple[str, ...]:
    from vitdet_plugin.errors import UserError
    from vitdet_plugin.utils.text import suggest
    words = tuple(dict.fromkeys(word.strip() for word in text.split(',')))
    for word in words:
        if word not in known:
            raise UserError(f'{option} {word}: choose from {", ".join(known)}{suggest(word, known)}')
    return words


def _numbers(option: str, text: str) -> list[int]:
    from vitdet_plugin.errors import UserError
    words = [word.strip() for word in text.split(',')]
    if not all(re.fullmatch(r'[0-9]{1,6}', word) and int(word) for word in words):
        raise UserError(f'{option} {text}: give one or several numbers from 1, such as 1,4')
    return list(dict.fromkeys(map(int, words)))


def _shapes(text: str | None) -> list[tuple[int, int]]:
    from vitdet_plugin.errors import UserError
    found = []
    for word in text.split(',') if text is not None else ():
        sides = re.fullmatch(r'([1-9][0-9]{0,4})(?:x([1-9][0-9]{0,4}))?', word.strip())
        if sides is None:
            raise UserError(f'--shape {text}: give sizes in pixels such as 320,480x640 (height x width)')
        found.append((int(sides[1]), int(sides[2] or sides[1])))
    return list(dict.fromkeys(found))


def _default_threads() -> int:
    import torch
    return torch.get_num_threads()

