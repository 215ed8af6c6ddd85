"""``vitdet flops CONFIG… [--shape H W]``: parameters, operations, speed and memory of models; ``--plan``: training."""

import argparse
import json
from collections.abc import Sequence

from vitdet_plugin.cli.arguments import add_config_options, parse
from vitdet_plugin.cli.process import run

_LARGEST_SIDE, _MOST_REPEATS = 2**16, 10_000


def build_parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, description='Count parameters and multiply-accumulates of each part of a model, measure time and '
                               'memory of a prediction. Weights are random.')
    parser.add_argument('configs', nargs='+', metavar='CONFIG',
                        help='config files or names of shipped configs; with --plan also "all", or a model such as '
                             'ViTDet-B or InternImage-H')
    parser.add_argument('--shape', nargs='+', type=int, metavar=('H', 'W'),
                        help="input size in pixels (default: the output size of the config's test pipeline, or the "
                             "backbone's img_size)")
    parser.add_argument('--repeats', type=int, default=5, metavar='N',
                        help='timed predictions; 0 only counts (default: 5)')
    parser.add_argument('--no-trace', action='store_true', help='skip the cross-check with mmengine, which is slow')
    parser.add_argument('--plan', action='store_true',
                        help='compute instead of measuring: memory, speed and network traffic of a training on GPUs')
    parser.add_argument('--markdown', metavar='FILE', help='with --plan: write the tables to this file')
    parser.add_argument('--json', metavar='FILE.json', help='also write the results to this file')
    add_config_options(parser)
    return parser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    return run(parse(build_parser(prog), argv), flops_command)


def flops_command(args: argparse.Namespace) -> None:
    from vitdet_plugin.errors import UserError
    from vitdet_plugin.utils.output_files import write_text
    from vitdet_plugin.utils.paths import check_output_path
    if args.shape and (len(args.shape) > 2 or min(args.shape) < 1):
        raise UserError('--shape: give H W, or one number for a square')
    if args.shape and max(args.shape) > _LARGEST_SIDE:
        raise UserError(f'--shape {" ".join(map(str, args.shape))}: give at most {_LARGEST_SIDE} pixels')
    if not 0 <= args.repeats <= _MOST_REPEATS:
        raise UserError(f'--repeats {args.repeats}: give a number from 0 to {_MOST_REPEATS}')
    if args.markdown and not args.plan:
        raise UserError('--markdown writes the tables of --plan; add --plan')
    for option, path, suffixes in (('--json', args.json, ('.json',)), ('--markdown', args.markdown, ())):
        if path:
            check_output_path(option, path, is_folder=False, suffixes=suffixes)
    shape = tuple((args.shape * 2)[:2]) if args.shape else None
    records = _plan(args, shape) if args.plan else _measure(args, shape)
    if args.json:
        write_text(args.json, json.dumps(records, indent=1))


def _measure(args: argparse.Namespace, shape: tuple[int, int] | None) -> list[dict]:
    from vitdet_plugin.engine.load_model import load_model
    from vitdet_plugin.evaluation.complexity import measure
    records = []
    for config in args.configs:
        found = measure(load_model(config, None, args.device, args.cfg_options, expects_random=True), shape,
                        args.repeats, not args.no_trace)
        found.name = config
        records.append(found.as_dict())
        print(found, end='\n\n', flush=True)
    return records


def _plan(args: argparse.Namespace, shape: tuple[int, int] | None) -> list[dict]:
    from vitdet_plugin.evaluation.scaling.plan import make_plan, names_of
    from vitdet_plugin.evaluation.scaling.report import report
    from vitdet_plugin.utils.output_files import write_text
    from vitdet_plugin.utils.track import track
    names = names_of(args.configs)
    plans = [make_plan(name, shape, args.cfg_options or ()) for name in track(names, len(names), 'models')]
    options = f' --shape {" ".join(map(str, args.shape))}' if args.shape else ''
    text = report(plans, f'vitdet flops --plan {" ".join(args.configs)}{options} --markdown FILE')
    if args.markdown:
        write_text(args.markdown, text)
        print(f'wrote {args.markdown}', flush=True)
    else:
        print(text, flush=True)
    return [plan.as_dict() for plan in plans]
