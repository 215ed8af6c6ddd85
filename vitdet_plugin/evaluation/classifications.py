"""Labels and scores of all images of a split, from a classifier or from a file of predictions."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config

from vitdet_plugin.engine.load_model import LoadedModel, build_dataset, labels_by_name, predict_dataset
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.text_files import read_text
from vitdet_plugin.utils.track import track


@dataclass
class ClassifiedSplit:
    """Predictions for one split.

    Attributes:
        name: Name of the split: test, val or train.
        classes: Names of the K classes.
        files: Path of each image.
        truth: Class indices of shape ``(N,)``.
        scores: Probabilities of shape ``(N, K)``.
    """

    name: str
    classes: list[str]
    files: list[str]
    truth: np.ndarray
    scores: np.ndarray

    @property
    def is_correct(self) -> np.ndarray:
        """Whether the class of highest score is the true one, of shape ``(N,)``."""
        return self.scores.argmax(1) == self.truth


def classify_split(loaded: LoadedModel, split: str, batch_size: int = 32) -> ClassifiedSplit:
    """Classify all images of a split.

    Args:
        loaded: A classifier.
        split: ``'test'``, ``'val'`` or ``'train'``, the ``*_dataloader`` of the config to use.
        batch_size: Number of images per forward pass.

    Raises:
        UserError: If the split does not exist, is empty, has no labels, or has other classes than the checkpoint.
    """
    dataset = build_dataset(loaded.cfg, split)
    classes = list(dataset.metainfo.get('classes') or loaded.classes or ())
    label_of = labels_by_name(loaded, classes, split)
    truth, scores, files = [], [], []
    for index, sample in enumerate(track(predict_dataset(loaded, dataset, batch_size), len(dataset), 'images')):
        if 'gt_label' not in sample or sample.gt_label.numel() != 1:
            raise UserError(f'{split}_dataloader: image {index} does not have exactly one label. Use a single-label '
                            'dataset.')
        truth.append(int(sample.gt_label))
        scores.append(sample.pred_score.cpu().numpy())
        files.append(str(sample.get('img_path', index)))
    if not truth:
        raise UserError(f'{split}_dataloader: the dataset has no images. Check its paths.')
    columns = slice(None) if label_of is None else np.argsort(label_of)
    return ClassifiedSplit(split, classes, files, np.array(truth), np.stack(scores)[:, columns])


def read_classifications(cfg: Config, split: str, file: str | Path) -> ClassifiedSplit:
    """Read the predictions for a split from the file that ``vitdet test --out FILE.json`` writes.

    Args:
        cfg: Config of a classifier.
        split: ``'test'``, ``'val'`` or ``'train'``, the split whose predictions are in the file.
        file: Object with ``classes`` and ``predictions``, see :class:`.prediction_file.ClassPredictionFile`.

    Raises:
        UserError: The file has another content, or the predictions of other images or classes.
    """
    dataset = build_dataset(cfg, split)
    names, scores_of = _read_scores(file)
    classes = list(dataset.metainfo.get('classes') or names)
    if sorted(classes) != sorted(names):
        raise UserError(f'{file} has the classes {", ".join(names)}, but the {split} split has {", ".join(classes)}; '
                        'give the predictions of this split')
    columns = [names.index(name) for name in classes]
    files, truth, scores = [], [], []
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        path, label = str(info.get('img_path')), np.asarray(info.get('gt_label'))
        if label.size != 1 or label.dtype.kind not in 'iu':
            raise UserError(f'{split}_dataloader: image {index} does not have exactly one label. Use a single-label '
                            'dataset.')
        if path not in scores_of:
            raise UserError(f'{file} has no prediction for {path} of the {split} split; give the predictions of this '
                            'split')
        files.append(path)
        truth.append(int(label))
        scores.append(scores_of[path][columns])
    if not truth:
        raise UserError(f'{split}_dataloader: the dataset has no images. Check its paths.')
    return ClassifiedSplit(split, classes, files, np.array(truth), np.stack(scores))


def _read_scores(file: str | Path) -> tuple[list[str], dict[str, np.ndarray]]:
    try:
        content: Any = json.loads(read_text(Path(file)))
        classes = [str(name) for name in content['classes']]
        scores = {str(row['file']): np.array(row['scores'], float) for row in content['predictions']}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f'{file} is not a file of predictions of a classifier ({error}); write it with vitdet test '
                        '--out FILE.json') from error
    if wrong := next((name for name, each in scores.items() if each.shape != (len(classes),)), None):
        raise UserError(f'{file}: {wrong} does not have {len(classes)} scores; write the file with vitdet test --out '
                        'FILE.json')
    return classes, scores
