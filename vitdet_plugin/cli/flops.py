"""``vitdet flops CONFIG… [--shape H W]``: parameters, operations, speed and memory of models."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from vitdet_plugin.cli.common import add_config_options, parse, run


def build_parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, description='Count parameters and multiply-accumulates of each part of a model, measure time and '
                               'memory of a prediction. Weights are random.')
    parser.add_argument('configs', nargs='+', metavar='CONFIG', help='config files or names of shipped configs')
    parser.add_argument('--shape', nargs='+', type=int, metavar=('H', 'W'),
                        help="input size in pixels (default: the output size of the config's test pipeline)")
    parser.add_argument('--repeats', type=int, default=5, metavar='N',
                        help='timed predictions; 0 only counts (default: 5)')
    parser.add_argument('--no-trace', action='store_true', help='skip the cross-check with mmengine, which is slow')
    parser.add_argument('--json', metavar='FILE.json', help='also write the results to this file')
    add_config_options(parser)
    return parser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    return run(parse(build_parser(prog), argv), flops_command)


def flops_command(args: argparse.Namespace) -> None:
    from vitdet_plugin.engine.load_model import load_model
    from vitdet_plugin.errors import UserError
    from vitdet_plugin.evaluation.complexity import measure
    from vitdet_plugin.utils.paths import check_output_path
    if args.shape and len(args.shape) > 2:
        raise UserError('--shape: give H W, or one number for a square')
    if args.json:
        check_output_path('--json', args.json, is_folder=False)
    shape = tuple((args.shape * 2)[:2]) if args.shape else None
    records = []
    for config in args.configs:
        found = measure(load_model(config, None, args.device, args.cfg_options, expects_random=True), shape,
                        args.repeats, not args.no_trace)
        found.name = config
        records.append(found.as_dict())
        print(found, end='\n\n', flush=True)
    if args.json:
        Path(args.json).parent.mkdir(parents=True, exist_ok=True)
        Path(args.json).write_text(json.dumps(records, indent=1))
