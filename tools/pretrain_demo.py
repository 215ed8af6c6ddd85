#!/usr/bin/env python
"""Make the demo's backbone weights: dense labelling of pictures that the demo neither trains nor evaluates on.

The weights in demo/ were made by this command with --bf16 and nothing else (12 minutes on one core).
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from _cli import ROOT, run, use_checkout

SIZE = 160


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--config', type=Path, default=ROOT / 'configs/vitdet_demo.py', help='whose backbone it is')
    parser.add_argument('--data', type=Path, default=ROOT / 'data/demo_pretrain', help='where the pictures are written')
    parser.add_argument('--out', type=Path, default=ROOT / 'demo/vitdet_demo_pretrained.safetensors',
                        help='weights to write (default: %(default)s)')
    parser.add_argument('--pictures', type=int, default=4000, help='how many (default: %(default)s)')
    parser.add_argument('--steps', type=int, default=600, help='of the optimiser (default: %(default)s)')
    parser.add_argument('--batch', type=int, default=32, help='pictures a step (default: %(default)s)')
    parser.add_argument('--lr', type=float, default=1.5e-3, help='highest learning rate (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=0, help='of weights and crops (default: %(default)s)')
    parser.add_argument('--bf16', action='store_true', help='mixed precision, for processors that have bfloat16 units')
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    use_checkout()
    return run(lambda: pretrain_demo(args))


def pretrain_demo(args: argparse.Namespace) -> None:
    import torch
    from mmengine.registry import MODELS
    from safetensors.torch import save_file

    from vitdet_plugin.config.explain import user_errors
    from vitdet_plugin.config.loading import load_config
    from vitdet_plugin.demo.demo_set import write_demo_set
    from vitdet_plugin.demo.dense_pretraining import DenseSet, pretrain
    from vitdet_plugin.errors import UserError
    from vitdet_plugin.utils.paths import check_output_path

    cfg = load_config(str(args.config))
    if 'backbone' not in (cfg.get('model') or {}):
        raise UserError(f'config {args.config} has no model with a backbone')
    check_output_path('--data', args.data, is_folder=True)
    check_output_path('--out', args.out, is_folder=False)
    torch.manual_seed(args.seed)
    with user_errors(cfg):
        backbone = MODELS.build({**cfg.model.backbone, 'init_cfg': None})
    annotations = args.data / 'annotations/pretrain.json'
    if not annotations.is_file():
        print(f'writing {args.pictures} pictures to {args.data}', flush=True)
        write_demo_set(args.data, train=0, val=0, pretrain=args.pictures, size=SIZE)
    data = DenseSet.read(annotations, args.data / 'pretrain', SIZE)
    pretrain(backbone, data, steps=args.steps, batch=args.batch, crop=128, lr=args.lr, seed=args.seed, bf16=args.bf16,
             report=lambda line: print(line, flush=True))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.half().contiguous() for name, value in backbone.state_dict().items()}, args.out)
    print(f'wrote {args.out} ({args.out.stat().st_size / 1e6:.1f} MB)')


if __name__ == '__main__':
    sys.exit(main())
