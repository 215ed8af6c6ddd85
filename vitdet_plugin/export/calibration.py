"""Calibration images of int8 files: a folder, the data set of a config, or a COCO file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from vitdet_plugin.engine.load_model import build_dataset
from vitdet_plugin.errors import UserError
from vitdet_plugin.runtime import Model
from vitdet_plugin.utils.track import track

COUNT = 48  # images, evenly spaced over those that are found


def calibration_images(data: str, model: Model, count: int = COUNT) -> list[np.ndarray]:
    """Return images as the exported file expects them, prepared by its steps.

    Args:
        data: A folder of images, a COCO file, or a config, whose training images are used.
        model: The float32 file.
        count: Highest number of images.

    Returns:
        Images of shape (1, C, H, W), float32.

    Raises:
        UserError: There are no images.
        ModelError: One cannot be read.
    """
    files = list_images(data)
    chosen = [files[index] for index in np.unique(np.linspace(0, len(files) - 1, count).round().astype(int))]
    return [model.stack([model.prepare(model.read(file))]) for file in track(chosen, len(chosen), 'calibration images')]


def list_images(data: str) -> list[Path]:
    """Return the image files that the value of ``--int8`` stands for, in a fixed order.

    Raises:
        UserError: There are none.
    """
    from vitdet_plugin.datasets.image_files import is_image_file, walk_files
    path = Path(data).expanduser()
    if path.is_dir():
        inside = [Path(each) for each, is_hidden in walk_files(path) if not is_hidden]
        files = [path / each for each in inside if is_image_file(each)]
        if not files:
            raise UserError(f'--int8 {data}: the folder holds no images; give a folder of images, a config or a COCO '
                            'file')
        return files
    if path.suffix.lower() == '.json':
        return _of_coco(path)
    return _of_config(data)


def _of_coco(path: Path) -> list[Path]:
    from vitdet_plugin.datasets.coco import find_image_folder, image_file_name, leaves_folder, read_coco
    try:
        images = read_coco(path, is_partial=True)['images']
    except UserError as error:
        raise UserError(f'--int8 {error}') from error
    root = find_image_folder(images, path)
    if root is None:
        raise UserError(f'--int8 {path}: none of its images exists in {path.parent}, {path.parent.parent} or a folder '
                        'in them; give the folder of the images')
    names = [name for name in map(image_file_name, images) if name and not leaves_folder(name)]
    return [root / name for name in names if (root / name).is_file()]


def _of_config(data: str) -> list[Path]:
    from vitdet_plugin.config.dataset_config import SPLITS
    from vitdet_plugin.config.loading import load_config
    cfg = load_config(data)
    split = next((name for name in SPLITS if cfg.get(f'{name}_dataloader')), None)
    if split is None:
        raise UserError(f'--int8 {data}: the config has no data set; give a folder of images')
    dataset = build_dataset(cfg, split)
    files = [dataset.get_data_info(index).get('img_path') for index in range(len(dataset))]
    found = [Path(file) for file in files if file and os.path.isfile(file)]
    if not found:
        raise UserError(f'--int8 {data}: none of the images of {split}_dataloader exists; give a folder of images')
    return found
