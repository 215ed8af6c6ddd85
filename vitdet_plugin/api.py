"""Models by name, pictures in, plain Python and NumPy out.

>>> from vitdet_plugin.api import Inferencer
>>> detector = Inferencer.load('vitdet_demo', 'work_dirs/vitdet_demo')
>>> detector.predict('pictures/', score_thr=0.5, out_dir='drawn/')[0].names
>>> classifier = Inferencer.load('vit-tiny_50e_plant-seedlings', 'work_dirs/vit-tiny_50e_plant-seedlings')
>>> [(found.name, found.score) for found in classifier.predict('pictures/')]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.config import Config
from pycocotools import mask as mask_utils
from torch import nn

from vitdet_plugin.config.loading import load_config
from vitdet_plugin.config.registry import is_classifier
from vitdet_plugin.engine.inference import TestPipeline, expand, out_paths
from vitdet_plugin.engine.load_model import load_model
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.text import suggest
from vitdet_plugin.utils.track import track
from vitdet_plugin.visualization.draw import Objects, draw_predictions_and_ground_truth
from vitdet_plugin.visualization.draw_classes import draw_classification
from vitdet_plugin.visualization.image_hook import predicted_objects

_HERE = Path(__file__).resolve().parent
# in a checkout beside the package, in an installed wheel inside it
_CONFIG_DIRS = (_HERE.parent / 'configs', _HERE / 'configs')


@dataclass
class Detections:
    """Objects found in one picture, best first, in the pixels of the picture as it was given.

    Attributes:
        path: file of the picture; None for an array.
        boxes: (N, 4) float32, x1, y1, x2, y2.
        scores: (N,) float32 in [0, 1].
        labels: (N,) int64, indices into the class names.
        names: N class names.
        masks: (N, H, W) bool; None for a model without masks.
    """

    path: str | None
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    names: list[str]
    masks: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    def as_dict(self) -> dict[str, Any]:
        """The same for ``json.dump``; masks as COCO's compressed RLE."""
        plain = dict(path=self.path, boxes=self.boxes.tolist(), scores=self.scores.tolist(),
                     labels=self.labels.tolist(), names=self.names)
        if self.masks is not None:
            codes = mask_utils.encode(np.asfortranarray(self.masks.transpose(1, 2, 0).astype(np.uint8)))
            plain['masks'] = [dict(size=code['size'], counts=code['counts'].decode()) for code in codes]
        return plain


@dataclass
class Classification:
    """The classes of one picture, likeliest first.

    Attributes:
        path: file of the picture; None for an array.
        scores: (K,) float32 probabilities; they add up to 1.
        labels: (K,) int64, indices into the class names.
        names: K class names.
    """

    path: str | None
    scores: np.ndarray
    labels: np.ndarray
    names: list[str]

    @property
    def name(self) -> str:
        """Of the likeliest class."""
        return self.names[0]

    @property
    def score(self) -> float:
        """Of the likeliest class."""
        return float(self.scores[0])

    def as_dict(self, top: int | None = None) -> dict[str, Any]:
        """The same for ``json.dump``; the ``top`` likeliest classes, or all."""
        return dict(path=self.path, names=self.names[:top], scores=self.scores[:top].tolist(),
                    labels=self.labels[:top].tolist())


class Inferencer:
    """A detector or classifier with its weights and its test pipeline, ready to predict.

    Attributes:
        model: in eval mode.
        classes: names of its labels.
        is_classifier: what :meth:`predict` returns, :class:`Classification` or :class:`Detections`.
    """

    def __init__(self, model: nn.Module, cfg: Config, classes: Sequence[str]) -> None:
        self.model, self.cfg, self.classes = model.eval(), cfg, tuple(classes)
        self.is_classifier = is_classifier(cfg)
        self._pipeline = TestPipeline(cfg)

    @staticmethod
    def list_models() -> list[str]:
        """Names that :meth:`load` takes: the configs that come with this project."""
        return sorted(_configs())

    @classmethod
    def load(cls, config: str | Path | Config, checkpoint: str | Path | None = None,
             device: str | torch.device | None = None, options: Sequence[str] = ()) -> Inferencer:
        """Build a model and load its weights.

        Args:
            config: a name of :meth:`list_models`, a config file, or a loaded config. Configs are programs: load
                only those that you would run.
            checkpoint: a file of ours or of a known official format (detectron2's ``.pkl``, mmdet's, EasyCV's), or
                a work directory, of which the best or else the newest checkpoint is taken. None leaves the weights
                random, which is good for measuring speed only. Class names are those that training wrote into it, or
                else the config's.
            device: by default the GPU if there is one.
            options: ``KEY=VALUE`` changes to a named config, as ``--cfg-options`` of the tools takes them.

        Raises:
            UserError: unknown name, broken config, or a checkpoint that does not fit.
        """
        cfg = config if isinstance(config, Config) else load_config(_find_config(str(config)), options)
        if cfg.get('model') is None or cfg.get('test_dataloader') is None:
            raise UserError(f'config {cfg.filename} has no model or no test_dataloader; give the config of a detector '
                            'or classifier')
        loaded = load_model(cfg, checkpoint, device)
        return cls(loaded.model, loaded.cfg, loaded.classes or ())

    @torch.no_grad()
    def predict(self, images: str | Path | np.ndarray | Sequence[str | Path | np.ndarray], score_thr: float = 0.3,
                out_dir: str | Path | None = None, progress: bool = False) -> list[Detections] | list[Classification]:
        """Find objects in pictures, or say what they show.

        Args:
            images: a file, a folder (its pictures and those of its subfolders, by path), an array (H, W, 3) uint8 in
                OpenCV's BGR order, or a list of these.
            score_thr: detections below it are left out; the config's own threshold holds as well. A classifier gives
                all classes.
            out_dir: folder for drawn pictures, ``<name>.jpg`` each (arrays: ``image_<number>.jpg``).
            progress: show on standard error how many pictures are done.

        Returns:
            One :class:`Detections` or :class:`Classification` a picture, in the order given.

        Raises:
            UserError: a path that does not exist, a folder without pictures, a file or array that is no picture.
        """
        sources = list(expand(images))
        places = out_paths(sources, Path(out_dir)) if out_dir is not None else [None] * len(sources)
        run = self._classify if self.is_classifier else self._detect
        pairs = zip(sources, places)
        return [run(source, score_thr, place)
                for source, place in (track(pairs, len(sources), 'pictures') if progress else pairs)]

    def _test_step(self, source: Path | np.ndarray) -> Any:
        data = self._pipeline(source)
        return self.model.test_step(dict(inputs=[data['inputs']], data_samples=[data['data_samples']]))[0]

    def _detect(self, source: Path | np.ndarray, score_thr: float, out_path: Path | None) -> Detections:
        sample = self._test_step(source)
        found = predicted_objects(sample, tuple(sample.ori_shape[:2]))
        best_first = np.argsort(-found.scores, kind='stable')
        kept = Objects(found.boxes[best_first], found.labels[best_first], found.scores[best_first],
                       None if found.masks is None else found.masks[best_first]).above(score_thr)
        if out_path is not None:
            _write(out_path, draw_predictions_and_ground_truth(_rgb(source), kept, None, self.classes, score_thr))
        return Detections(_path_of(source), kept.boxes, kept.scores, kept.labels, self._names(kept.labels), kept.masks)

    def _classify(self, source: Path | np.ndarray, score_thr: float, out_path: Path | None) -> Classification:
        scores = self._test_step(source).pred_score.float().cpu().numpy()
        labels = np.argsort(-scores, kind='stable')
        if out_path is not None:
            _write(out_path, draw_classification(_rgb(source), scores, self.classes))
        return Classification(_path_of(source), scores[labels], labels, self._names(labels))

    def _names(self, labels: np.ndarray) -> list[str]:
        return [self.classes[i] if i < len(self.classes) else f'class {i}' for i in labels]


def _path_of(source: Path | np.ndarray) -> str | None:
    return None if isinstance(source, np.ndarray) else str(source)


def _rgb(source: Path | np.ndarray) -> np.ndarray:
    image = source if isinstance(source, np.ndarray) else cv2.imread(str(source), cv2.IMREAD_COLOR)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _write(path: Path, figure: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), cv2.cvtColor(figure, cv2.COLOR_RGB2BGR)):
        raise UserError(f'{path} cannot be written; choose another folder')


def _configs() -> dict[str, Path]:
    folder = next((folder for folder in _CONFIG_DIRS if folder.is_dir()), _CONFIG_DIRS[0])
    return {path.stem: path for path in folder.rglob('*.py') if '_base_' not in path.parts}


def _find_config(name: str) -> str:
    if name.endswith(('.py', '.json', '.yaml', '.yml')) or '::' in name:
        return name
    known = _configs()
    if name not in known:
        raise UserError(f'model {name!r} is unknown{suggest(name, known)}; Inferencer.list_models() names them, a path '
                        'must end in .py')
    return str(known[name])
