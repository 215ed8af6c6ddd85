"""Old config keys that still work, with a notice."""

from mmengine.config import Config


def upgrade_config(cfg: Config) -> None:
    """Replace old keys in place and print one line for each."""
    _move_mix_token(cfg)


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
