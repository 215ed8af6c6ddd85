"""Prediction with models by name; results are plain Python and NumPy objects."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from pycocotools import mask as mask_utils

from vitdet_plugin.compat.packaged_configs import shipped_configs
from vitdet_plugin.config.loading import load_config
from vitdet_plugin.config.registry import is_classifier
from vitdet_plugin.engine.image_sources import ImageSource, find_images, out_paths
from vitdet_plugin.engine.inference import TestPipeline
from vitdet_plugin.engine.load_model import load_model
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.track import track
from vitdet_plugin.visualization.draw import Objects, draw_predictions_and_ground_truth
from vitdet_plugin.visualization.draw_classes import draw_classification
from vitdet_plugin.visualization.image_hook import predicted_objects


@dataclass
class Detections:
    """Objects detected in one image, sorted by score, in pixels of the original image.

    Attributes:
        path: Image or video file; None for an image in memory.
        boxes: (N, 4) float32, x1, y1, x2, y2 in pixels.
        scores: (N,) float32 in [0, 1].
        labels: (N,) int64, indices of the class names.
        names: N class names.
        masks: (N, H, W) bool; None for a model without masks.
        frame: Number of the frame of a video, from 0; None for an image.
    """

    path: str | None
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    names: list[str]
    masks: np.ndarray | None = None
    frame: int | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    def as_dict(self) -> dict[str, Any]:
        """Return a dictionary for ``json.dump``; masks are in COCO's compressed RLE."""
        plain = dict(path=self.path, boxes=self.boxes.tolist(), scores=self.scores.tolist(),
                     labels=self.labels.tolist(), names=self.names)
        if self.frame is not None:
            plain['frame'] = self.frame
        if self.masks is not None:
            codes = mask_utils.encode(np.asfortranarray(self.masks.transpose(1, 2, 0).astype(np.uint8)))
            plain['masks'] = [dict(size=code['size'], counts=code['counts'].decode()) for code in codes]
        return plain


@dataclass
class Classification:
    """The classes of one image, sorted by score.

    Attributes:
        path: Image or video file; None for an image in memory.
        scores: (K,) float32 probabilities that sum to 1.
        labels: (K,) int64, indices of the class names.
        names: K class names.
        frame: Number of the frame of a video, from 0; None for an image.
    """

    path: str | None
    scores: np.ndarray
    labels: np.ndarray
    names: list[str]
    frame: int | None = None

    @property
    def name(self) -> str:
        """Name of the most likely class."""
        return self.names[0]

    @property
    def score(self) -> float:
        """Score of the most likely class."""
        return float(self.scores[0])

    def as_dict(self, top: int | None = None) -> dict[str, Any]:
        """Return a dictionary for ``json.dump`` with the ``top`` most likely classes, or all."""
        plain = dict(path=self.path, names=self.names[:top], scores=self.scores[:top].tolist(),
                     labels=self.labels[:top].tolist())
        return plain if self.frame is None else {**plain, 'frame': self.frame}


class Inferencer:
    """A detector or classifier with its weights and its test pipeline, ready to predict.

    Attributes:
        model: The model, in eval mode.
        classes: Names of its labels.
        is_classifier: Whether :meth:`predict` returns :class:`Classification` or :class:`Detections`.
    """

    def __init__(self, model: BaseModel, cfg: Config | None = None, classes: Sequence[str] = ()) -> None:
        if not isinstance(model, torch.nn.Module) or cfg is None:
            raise UserError('Inferencer(model, cfg, classes) takes a model that is built and loaded; write '
                            'Inferencer.load(config, checkpoint)')
        self.model: BaseModel = model.eval()
        self.cfg, self.classes = cfg, tuple(classes)
        self.is_classifier = is_classifier(cfg)
        self._pipeline = TestPipeline(cfg)

    @staticmethod
    def list_models() -> list[str]:
        """Return the names of the shipped configs, which :meth:`load` accepts."""
        return sorted(shipped_configs())

    @classmethod
    def load(cls, config: str | Path | Config, checkpoint: str | Path | None = None,
             device: str | torch.device | None = None, options: Mapping[str, Any] | Sequence[str] = ()) -> Inferencer:
        """Build a model and load its weights.

        Args:
            config: Name of a shipped config (:meth:`list_models`), config file, or a loaded config. Configs are
                programs: use only configs that you trust.
            checkpoint: A file in a format of this project or an official one (detectron2's ``.pkl``, mmdet's,
                EasyCV's), or a work directory, whose best checkpoint (or else the newest) is loaded. With None the
                weights are random, for measuring speed, which is a warning. Class names are those stored in the
                checkpoint, or else the config's.
            device: By default the GPU if there is one.
            options: Changes to the config: a dictionary of dotted keys and values, or ``KEY=VALUE`` words.

        Raises:
            UserError: Unknown name, broken config, or a checkpoint that does not fit.
        """
        cfg = load_config(config, options)
        if cfg.get('model') is None or cfg.get('test_dataloader') is None:
            raise UserError(f'config {cfg.filename} has no model or no test_dataloader; give the config of a detector '
                            'or classifier')
        loaded = load_model(cfg, checkpoint, device)
        return cls(loaded.model, loaded.cfg, loaded.classes or ())

    def predict(self, images: Any, score_thr: float = 0.3, out_dir: str | Path | None = None,
                progress: bool = False) -> list[Detections] | list[Classification]:
        """Detect objects in images, or classify them.

        Args:
            images: One of the following, or a list or generator of them: a file; a folder (its images and those of its
                subfolders, sorted by path); a pattern (``'photos/*.jpg'``); a video, each frame of which is an image;
                an array (H, W, 3) uint8 in OpenCV's BGR order, in gray (H, W), or (N, H, W, 3); a tensor (3, H, W) or
                (N, 3, H, W) in RGB order, uint8 or in [0, 1]; a PIL image; the bytes of an image file, or such a file
                opened with mode ``'rb'``.
            score_thr: Lowest score of a detection; the config's own threshold applies too. A classifier returns all
                classes.
            out_dir: Folder for drawn images, ``<name>.jpg`` in the subfolders of a given folder (images in memory:
                ``image_<number>.jpg``).
            progress: Whether to show the progress on standard error.

        Returns:
            One :class:`Detections` or :class:`Classification` per image, in the given order. Files of a folder that
            cannot be read are left out with a warning that names them.

        Raises:
            UserError: A path that does not exist, a folder without images, or another file or object that is not an
                image.
        """
        return list(self.predict_each(images, score_thr, out_dir, progress))  # type: ignore[return-value]

    def predict_each(self, images: Any, score_thr: float = 0.3, out_dir: str | Path | None = None,
                     progress: bool = False, on_fault: Callable[[str], None] | None = None
                     ) -> Iterator[Detections] | Iterator[Classification]:
        """Yield the results of :meth:`predict` one by one, for more images than fit into memory.

        Args:
            images, score_thr, out_dir, progress: As for :meth:`predict`.
            on_fault: Called with one line for each file that cannot be read, which is left out then.
        """
        sources = find_images(images)
        targets = out_paths(sources, Path(out_dir)) if out_dir is not None else [None] * len(sources)
        pairs = zip(sources, targets)
        for source, target in track(pairs, len(sources), 'images') if progress else pairs:
            try:
                content = source.content()
                packed = self._pipeline(content)
            except UserError as error:
                if on_fault is not None:
                    on_fault(str(error))
                elif source.is_found:
                    warnings.warn(f'left out: {error}', stacklevel=2)
                else:
                    raise
                continue
            with torch.no_grad():
                sample = self.model.test_step(dict(inputs=[packed['inputs']], data_samples=[packed['data_samples']]))[0]
            result = self._classification if self.is_classifier else self._detections
            yield result(source, content, sample, score_thr, target)

    def _detections(self, source: ImageSource, content: Path | np.ndarray, sample: Any, score_thr: float,
                    out_path: Path | None) -> Detections:
        found = predicted_objects(sample, tuple(sample.ori_shape[:2]))
        assert found.scores is not None  # only ground truth has no scores
        best_first = np.argsort(-found.scores, kind='stable')
        kept = Objects(found.boxes[best_first], found.labels[best_first], found.scores[best_first],
                       None if found.masks is None else found.masks[best_first]).filter_by_score(score_thr)
        assert kept.scores is not None
        if out_path is not None:
            _write(out_path, draw_predictions_and_ground_truth(_rgb(content), kept, None, self.classes, score_thr))
        return Detections(_path_of(source), kept.boxes, kept.scores, kept.labels, self._names(kept.labels), kept.masks,
                          source.frame)

    def _classification(self, source: ImageSource, content: Path | np.ndarray, sample: Any, _score_thr: float,
                        out_path: Path | None) -> Classification:
        scores = sample.pred_score.float().cpu().numpy()
        labels = np.argsort(-scores, kind='stable')
        if out_path is not None:
            _write(out_path, draw_classification(_rgb(content), scores, self.classes))
        return Classification(_path_of(source), scores[labels], labels, self._names(labels), source.frame)

    def _names(self, labels: np.ndarray) -> list[str]:
        return [self.classes[i] if i < len(self.classes) else f'class {i}' for i in labels]


def _path_of(source: ImageSource) -> str | None:
    return None if source.path is None else str(source.path)


def _rgb(source: Path | np.ndarray) -> np.ndarray:
    image = source if isinstance(source, np.ndarray) else cv2.imread(str(source), cv2.IMREAD_COLOR)
    if image is None:
        raise UserError(f'{source} cannot be read as an image; check the file')
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _write(path: Path, figure: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), cv2.cvtColor(figure, cv2.COLOR_RGB2BGR)):
        raise UserError(f'cannot write {path}; choose another folder')
