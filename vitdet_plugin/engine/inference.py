"""Shared by detectors and classifiers in prediction: input images, checkpoints, test pipelines."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from torch import nn

from vitdet_plugin.checkpoints.fetching import local_file
from vitdet_plugin.config.dataset_config import dataset_classes, leaf_datasets
from vitdet_plugin.config.registry import is_classifier
from vitdet_plugin.datasets.checks.class_folders import folder_classes, is_folder_dataset
from vitdet_plugin.datasets.image_files import IMAGE_SUFFIXES, is_image_file
from vitdet_plugin.engine.resume import find_newest_checkpoint
from vitdet_plugin.errors import UserError


def find_checkpoint(name: str | Path) -> Path:
    """Return the local file of a checkpoint, or the best (else the newest) checkpoint of a work directory.

    Args:
        name: A work directory, or a name, path or URL as for ``checkpoints.fetching.local_file``.

    Raises:
        UserError: A folder without checkpoints, or a failed download.
    """
    path = local_file(name)
    if not path.is_dir():
        return path
    best = sorted(path.glob('best_*.pth'), key=lambda file: file.stat().st_mtime)
    newest = best[-1] if best else find_newest_checkpoint(str(path))
    if newest is None:
        raise UserError(f'{path} holds no checkpoint (best_*.pth, iter_*.pth, epoch_*.pth); '
                        'train first, or give another folder')
    return Path(newest)


def check_complete(model: nn.Module, matched: list[str], path: Path) -> None:
    """Check that every part of the model has weights; a checkpoint of a backbone alone is for training only.

    Raises:
        UserError: Parts of the model without any weight.
    """
    lacking = sorted({name.split('.')[0] for name in model.state_dict()} - {name.split('.')[0] for name in matched})
    if lacking:
        raise UserError(f'{path} has no weights for {", ".join(lacking)}; it can initialize training, but '
                        'not predict')


def checkpoint_classes(content: Mapping) -> tuple[str, ...] | None:
    """Class names stored in a checkpoint by training, or None."""
    classes = ((content.get('meta') or {}).get('dataset_meta') or {}).get('classes')
    return tuple(classes) if classes else None


def config_classes(cfg: Config) -> Sequence[str]:
    """Class names of the test split, from its config or else from its folders."""
    for _, dataset in leaf_datasets(cfg.test_dataloader.dataset, ''):
        return dataset_classes(dataset) or (folder_classes(dataset) if is_folder_dataset(dataset) else ())
    return ()


def fit_classifier(cfg: Config, classes: Sequence[str] | None) -> Config:
    """Return a classifier's config with as many outputs as the checkpoint has classes."""
    if not classes or not is_classifier(cfg) or cfg.model.get('head', {}).get('num_classes') in (None, len(classes)):
        return cfg
    cfg = copy.deepcopy(cfg)
    cfg.model.head.num_classes = len(classes)
    if 'num_classes' in (cfg.model.get('data_preprocessor') or {}):
        cfg.model.data_preprocessor.num_classes = len(classes)
    return cfg


class TestPipeline:
    """The test pipeline of a config, without loading of annotations, for a file or an array.

    Raises:
        UserError: A pipeline that does not start with loading an image file.
    """

    __test__ = False  # not a pytest test

    def __init__(self, cfg: Config) -> None:
        from mmengine.dataset import Compose
        _, dataset = next(leaf_datasets(cfg.test_dataloader.dataset, 'test_dataloader.dataset'))
        steps = [copy.deepcopy(step) for step in dataset['pipeline'] if 'LoadAnnotations' not in step['type']]
        if not steps or not steps[0]['type'].endswith('LoadImageFromFile'):
            raise UserError(f'config {cfg.filename}: the test pipeline must start with LoadImageFromFile')
        if steps[-1]['type'].endswith('PackDetInputs'):
            steps[-1]['meta_keys'] = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor',
                                      'letterbox_offset')
        self._load, self._rest = Compose(steps[:1]), Compose(steps[1:])

    def __call__(self, source: Path | np.ndarray) -> dict[str, Any]:
        """Return the model input of an image file or of an array (H, W, 3).

        Raises:
            UserError: A file or array that is not an image.
        """
        if isinstance(source, np.ndarray):
            if source.ndim != 3 or source.shape[2] != 3 or source.dtype != np.uint8:
                raise UserError(f'image array: expected (H, W, 3) uint8 in BGR order, got {source.shape} '
                                f'{source.dtype}')
            size = source.shape[:2]
            return self._rest(dict(img=source, img_id=0, img_path=None, img_shape=size, ori_shape=size))
        try:
            return self._rest(self._load(dict(img_path=str(source), img_id=0)))
        except Exception as error:  # any error of a decoder
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(f'{source} cannot be read as an image ({reason}); replace it or give another '
                            'file') from error


def expand(images: Any) -> Iterator[Path | np.ndarray]:
    """Yield files and arrays in the given order; images of a folder and its subfolders sorted by path.

    Raises:
        UserError: A path that does not exist, a folder without images.
    """
    if isinstance(images, np.ndarray):
        yield images
        return
    if not isinstance(images, (str, Path)):
        for each in images:
            yield from expand(each)
        return
    path = Path(images)
    if path.is_dir():
        found = sorted(file for file in path.rglob('*') if is_image_file(file) and file.is_file())
        if not found:
            raise UserError(f'{path} holds no images ({", ".join(IMAGE_SUFFIXES[:6])} …)')
        yield from found
    elif path.is_file():
        yield path
    else:
        raise UserError(f'{path} does not exist; give an image or a folder of images')


def out_paths(sources: Sequence[Path | np.ndarray], out_dir: Path) -> list[Path]:
    """Return one output path per image; images of equal names in different folders get a number."""
    paths: list[Path] = []
    taken = set()
    for number, source in enumerate(sources):
        stem = f'image_{number}' if isinstance(source, np.ndarray) else source.stem
        name, count = stem, 1
        while name in taken:
            count += 1
            name = f'{stem}_{count}'
        taken.add(name)
        paths.append(out_dir / f'{name}.jpg')
    return paths
