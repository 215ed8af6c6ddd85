"""``vitdet demo pretrain``: train the backbone weights that the demo starts from."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from vitdet_plugin.cli.arguments import parse
from vitdet_plugin.cli.process import run

SIZE = 160
DESCRIPTION = """Train the demo's backbone weights by dense labeling, on images that the demo itself does not use.

The weights in demo/ were made by this command with --bf16 and no other argument (12 minutes on one core)."""


def build_parser(prog: str | None = None, root: Path = Path()) -> argparse.ArgumentParser:
    """Return the parser; relative default paths are below ``root``."""
    parser = argparse.ArgumentParser(prog=prog, description=DESCRIPTION,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--config', default='vitdet_demo', help='config of the backbone (default: %(default)s)')
    parser.add_argument('--data', type=Path, default=root / 'data/demo_pretrain',
                        help='folder for the images (default: %(default)s)')
    parser.add_argument('--out', type=Path, default=root / 'demo/vitdet_demo_pretrained.safetensors',
                        help='weights to write (default: %(default)s)')
    parser.add_argument('--images', '--pictures', type=int, default=4000,  # language: ok
                        help='number of images (default: %(default)s)')
    parser.add_argument('--steps', type=int, default=600, help='optimizer steps (default: %(default)s)')
    parser.add_argument('--batch', type=int, default=32, help='images per step (default: %(default)s)')
    parser.add_argument('--lr', type=float, default=1.5e-3, help='highest learning rate (default: %(default)s)')
    parser.add_argument('--seed', type=int, default=0, help='seed of weights and crops (default: %(default)s)')
    parser.add_argument('--bf16', action='store_true', help='mixed precision, for processors with bfloat16 units')
    return parser


def main(argv: Sequence[str] | None = None, prog: str | None = None, root: Path = Path()) -> int:
    return run(parse(build_parser(prog, root), argv), pretrain_demo_command)


def pretrain_demo_command(args: argparse.Namespace) -> None:
    import torch
    from mmengine.registry import MODELS
    from safetensors.torch import save

    from vitdet_plugin.config.explain import user_errors
    from vitdet_plugin.config.loading import load_config
    from vitdet_plugin.demo.demo_set import write_demo_set
    from vitdet_plugin.demo.dense_pretraining import DenseSet, pretrain
    from vitdet_plugin.errors import UserError
    from vitdet_plugin.utils.output_files import write_atomically
    from vitdet_plugin.utils.paths import check_output_path

    cfg = load_config(args.config)
    if 'backbone' not in (cfg.get('model') or {}):
        raise UserError(f'config {args.config} has no model with a backbone; give the config of a detector')
    check_output_path('--data', args.data, is_folder=True)
    check_output_path('--out', args.out, is_folder=False, suffixes=('.safetensors', '.pth'))
    torch.manual_seed(args.seed)
    with user_errors(cfg):
        backbone = MODELS.build({**cfg.model.backbone, 'init_cfg': None})
    annotations = args.data / 'annotations/pretrain.json'
    if not annotations.is_file():
        print(f'writing {args.images} images to {args.data}', flush=True)
        write_demo_set(args.data, train=0, val=0, pretrain=args.images, size=SIZE)
    data = DenseSet.read(annotations, args.data / 'pretrain', SIZE)
    pretrain(backbone, data, steps=args.steps, batch=args.batch, crop=128, lr=args.lr, seed=args.seed, bf16=args.bf16,
             report=lambda line: print(line, flush=True))
    content = save({name: value.half().contiguous() for name, value in backbone.state_dict().items()})
    write_atomically(args.out, lambda file: file.write(content))
    print(f'wrote {args.out} ({args.out.stat().st_size / 1e6:.1f} MB)')
