#!/usr/bin/env python
"""Parameters, arithmetic, speed and memory of models: ``tools/analysis/get_flops.py CONFIG… [--shape H W]``."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from _cli import add_config_options, parse, run, use_checkout


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description='Parameters and multiply-accumulates of each part of a model, time and memory of a prediction. '
                    'Weights are random.')
    parser.add_argument('configs', nargs='+', metavar='CONFIG', help='config files')
    parser.add_argument('--shape', nargs='+', type=int, metavar=('H', 'W'),
                        help='input in pixels (default: what the test pipeline of the config makes)')
    parser.add_argument('--repeats', type=int, default=5, metavar='N',
                        help='timed predictions; 0 only counts (default: 5)')
    parser.add_argument('--no-trace', action='store_true', help='leave out the cross-check by mmengine, which is slow')
    parser.add_argument('--json', metavar='FILE.json', help='write the figures there, too')
    add_config_options(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(build_parser(), argv)
    use_checkout()

    def action() -> None:
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
            found = measure(load_model(config, None, args.device, args.cfg_options), shape, args.repeats,
                            not args.no_trace)
            found.name = config
            records.append(found.as_dict())
            print(found, end='\n\n', flush=True)
        if args.json:
            Path(args.json).parent.mkdir(parents=True, exist_ok=True)
            Path(args.json).write_text(json.dumps(records, indent=1))

    return run(action)


if __name__ == '__main__':
    sys.exit(main())
