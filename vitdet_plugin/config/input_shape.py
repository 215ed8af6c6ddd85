"""The size of the images that a model receives, from its test pipeline."""

from __future__ import annotations

from mmengine.config import Config

from vitdet_plugin.config.dataset_config import split_datasets
from vitdet_plugin.errors import UserError
from vitdet_plugin.runtime.pipeline import output_size


def input_shape(cfg: Config, or_backbone_size: bool = False) -> tuple[int, int]:
    """Return the height and width of images after the test pipeline and the padding of the data preprocessor.

    Args:
        cfg: Config with ``test_dataloader`` and ``model``.
        or_backbone_size: Whether ``model.backbone.img_size`` is an answer, too, if the pipeline keeps the images' own.

    Raises:
        UserError: The pipeline does not resize to a fixed size.
    """
    _, dataset = next(split_datasets(cfg, 'test'), ('', {}))
    size = output_size(dataset.get('pipeline') or ())
    if size is None and or_backbone_size:
        side = (cfg.model.get('backbone') or {}).get('img_size')
        size = (side, side) if isinstance(side, int) else side
    if size is None:
        raise UserError(f'config {cfg.filename}: the test pipeline has no fixed output size. Pass --shape H W.')
    preprocessor = cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    divisor = preprocessor.get('pad_size_divisor') or 1
    height, width = (-(-side // divisor) * divisor for side in size)
    return height, width
