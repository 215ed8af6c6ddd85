"""Shared by detectors and classifiers in prediction: checkpoints and test pipelines."""

import contextlib
import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from torch import nn

from vitdet_plugin.checkpoints.fetching import local_file
from vitdet_plugin.checkpoints.published import is_name
from vitdet_plugin.checkpoints.work_dirs import CHECKPOINT_NAMES, choose_checkpoint
from vitdet_plugin.compat.remote_files import is_remote, local_path
from vitdet_plugin.config.dataset_config import dataset_classes, split_datasets
from vitdet_plugin.config.registry import is_classifier, type_name
from vitdet_plugin.datasets.checks.class_folders import folder_classes, is_folder_dataset
from vitdet_plugin.datasets.unusual_images import describe_unreadable
from vitdet_plugin.engine.image_arrays import as_loaded, is_cut_jpeg
from vitdet_plugin.errors import UserError

META_KEYS = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'letterbox_offset')  # heads need these


def find_checkpoint(name: str | Path) -> Path:
    """Return the local file of a checkpoint, or the best (else the newest) checkpoint of a work directory.

    Args:
        name: A work directory, or a name, path or URL as for ``checkpoints.fetching.local_file``.

    Raises:
        UserError: A folder without checkpoints, or a failed download.
    """
    path = None if is_name(name) or is_remote(name) else local_path(name)
    if path is None or not path.is_dir():
        return local_file(name)
    chosen = choose_checkpoint(path, takes_sharded=True)
    if chosen == path:
        raise UserError(f'{path} holds no checkpoint ({CHECKPOINT_NAMES}); train first, or give another folder')
    return chosen


def check_complete(model: nn.Module, matched: list[str], path: Path) -> None:
    """Check that every part of the model has weights; a checkpoint of a backbone alone is for training only.

    Raises:
        UserError: Parts of the model without any weight.
    """
    lacking = sorted({name.split('.')[0] for name in model.state_dict()} - {name.split('.')[0] for name in matched})
    if lacking:
        raise UserError(f'{path} has no weights for {", ".join(lacking)}; it can initialize training, but '
                        'not predict')


def config_classes(cfg: Config) -> Sequence[str]:
    """Class names of the test split, from its config or else from its folders."""
    for _, dataset in split_datasets(cfg, 'test'):
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

    Attributes:
        color_type: How its first step decodes files, as in mmcv: ``'color'``, ``'grayscale'``, ….

    Raises:
        UserError: A pipeline that does not start with loading an image file.
    """

    __test__ = False  # not a pytest test

    def __init__(self, cfg: Config) -> None:
        from mmengine.dataset import Compose
        _, dataset = next(split_datasets(cfg, 'test'))
        steps = [copy.deepcopy(step) for step in dataset['pipeline'] if 'LoadAnnotations' not in type_name(step)]
        if not steps or not type_name(steps[0]).endswith('LoadImageFromFile'):
            raise UserError(f'config {cfg.filename}: the test pipeline must start with LoadImageFromFile')
        if type_name(steps[-1]).endswith('PackDetInputs'):
            steps[-1]['meta_keys'] = META_KEYS
        self.color_type: str = steps[0].get('color_type') or 'color'
        self._load, self._rest = Compose(steps[:1]), Compose(steps[1:])

    def __call__(self, source: Path | np.ndarray) -> dict[str, Any]:
        """Return the model input of an image file or of an array (H, W, 3) in BGR order.

        Raises:
            UserError: A file or array that is not an image.
        """
        return self.pack(source, self.load(source))

    def load(self, source: Path | np.ndarray) -> dict[str, Any]:
        """Return what the first step of the pipeline returns: ``img``, (H, W, 3) in BGR order or (H, W), and its sizes.

        Raises:
            UserError: A file or array that is not an image.
        """
        if isinstance(source, np.ndarray):
            source = as_loaded(source, self.color_type)
            size = source.shape[:2]
            return dict(img=source, img_id=0, img_path=None, img_shape=size, ori_shape=size)
        with _image_errors(source):
            if is_cut_jpeg(Path(source)):
                raise ValueError('the file ends early')
            return self._load(dict(img_path=str(source), img_id=0))

    def pack(self, source: Path | np.ndarray, loaded: dict[str, Any]) -> dict[str, Any]:
        """Apply the steps after loading to a result of :meth:`load`, which they may change.

        Raises:
            UserError: The steps cannot process the image.
        """
        if isinstance(source, np.ndarray):
            return self._rest(loaded)
        with _image_errors(source):
            return self._rest(loaded)


@contextlib.contextmanager
def _image_errors(source: Path) -> Iterator[None]:
    """Report any error of a decoder or transform in one line that names the file."""
    try:
        yield
    except Exception as error:
        reason = describe_unreadable(source) or (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f'{source} cannot be read as an image ({reason}); replace it or give another file') from error
