"""Old config keys that still work, and keys that stand for others."""

import re
from typing import Any

from mmengine.config import Config

from vitdet_plugin.config.dataset_config import SPLITS
from vitdet_plugin.config.pretrained import read_pretrained

_NUMBER = re.compile(r'[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?')


def upgrade_config(cfg: Config) -> None:
    """Replace these keys in place; old ones print one line."""
    _move_mix_token(cfg)
    _read_numbers(cfg)
    read_pretrained(cfg)


def _move_mix_token(cfg: Config) -> None:
    """``mix_token`` of VOLO's backbone is now a data preprocessor."""
    model = cfg.get('model') or {}
    backbone = model.get('backbone')
    if not isinstance(backbone, dict) or backbone.get('type') != 'VOLO' or 'mix_token' not in backbone:
        return
    if backbone.pop('mix_token'):
        holder = cfg if 'data_preprocessor' in cfg and 'data_preprocessor' not in model else model
        holder.setdefault('data_preprocessor', {})
        holder['data_preprocessor']['type'] = 'MixTokenDataPreprocessor'
        print("note: model.backbone.mix_token is deprecated; set type='MixTokenDataPreprocessor' in data_preprocessor",
              flush=True)


def _read_numbers(cfg: Config) -> None:
    """Convert numbers that are text: YAML reads ``1e-4`` as text, JSON files are often written with quotes."""
    for key in ('optim_wrapper', 'param_scheduler', 'train_cfg', 'auto_scale_lr'):
        if isinstance(cfg.get(key), (dict, list)):
            cfg[key] = _with_numbers(cfg[key])
    for split in SPLITS:
        loader = cfg.get(f'{split}_dataloader')
        for key in ('batch_size', 'num_workers', 'prefetch_factor') if isinstance(loader, dict) else ():
            if key in loader:
                loader[key] = _with_numbers(loader[key])


def _with_numbers(node: Any) -> Any:
    if isinstance(node, dict):
        for key, value in node.items():
            if key != 'type':
                node[key] = _with_numbers(value)
    elif isinstance(node, (list, tuple)):
        return type(node)(map(_with_numbers, node))
    elif isinstance(node, str) and _NUMBER.fullmatch(node.strip()):
        return float(node) if re.search(r'[.eE]', node) else int(node)
    return node
