"""Models by name, pictures in, plain Python and NumPy out.

>>> from vitdet_plugin.api import Inferencer
>>> detector = Inferencer.load('vitdet_demo', 'work_dirs/vitdet_demo')
>>> detector.predict('pictures/', score_thr=0.5, out_dir='drawn/')[0].names
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from pycocotools import mask as mask_utils
from torch import nn

from vitdet_plugin.checkpoints.files import load_file
from vitdet_plugin.checkpoints.official import load_official
from vitdet_plugin.engine.check_data import dataset_classes, leaf_datasets
from vitdet_plugin.engine.config import load_config, near
from vitdet_plugin.engine.explain import user_errors
from vitdet_plugin.engine.resume import find_newest_checkpoint
from vitdet_plugin.errors import UserError
from vitdet_plugin.visualization.draw import Objects, draw_predictions_beside_truth
from vitdet_plugin.visualization.picture_hook import predicted_objects

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff')
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


class Inferencer:
    """A detector with its weights and its test pipeline, ready to predict.

    Attributes:
        model: the detector, in eval mode.
        classes: names of its labels.
    """

    def __init__(self, model: nn.Module, cfg: Config, classes: Sequence[str]) -> None:
        self.model, self.cfg, self.classes = model.eval(), cfg, tuple(classes)
        self._from_file, self._from_array = _pipelines(cfg)

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
                random, which is good for measuring speed only.
            device: by default the GPU if there is one.
            options: ``KEY=VALUE`` changes to a named config, as ``--cfg-options`` of the tools takes them.

        Raises:
            UserError: unknown name, broken config, or a checkpoint that does not fit.
        """
        cfg = config if isinstance(config, Config) else load_config(_find_config(str(config)), options)
        if cfg.get('model') is None or cfg.get('test_dataloader') is None:
            raise UserError(f'config {cfg.filename} has no model or no test_dataloader; give the config of a detector')
        init_default_scope(cfg.get('default_scope') or 'mmdet')
        from mmdet.registry import MODELS  # after the scope: mmdet registers its modules on import
        with user_errors(cfg):
            model = MODELS.build(cfg.model)
        classes = None
        if checkpoint is not None:
            path = _find_checkpoint(Path(checkpoint))
            report = load_official(model, path, allow_missing=False)
            _check_complete(model, report.matched, path)
            classes = ((load_file(path).get('meta') or {}).get('dataset_meta') or {}).get('classes')
        device = torch.device(device or ('cuda' if torch.cuda.is_available() else 'cpu'))
        return cls(model.to(device), cfg, classes or _config_classes(cfg))

    @torch.no_grad()
    def predict(self, images: str | Path | np.ndarray | Sequence[str | Path | np.ndarray], score_thr: float = 0.3,
                out_dir: str | Path | None = None) -> list[Detections]:
        """Find objects in pictures.

        Args:
            images: a file, a folder (its pictures, by name), an array (H, W, 3) uint8 in OpenCV's BGR order, or a
                list of these.
            score_thr: detections below it are left out; the config's own threshold holds as well.
            out_dir: folder for drawn pictures, ``<name>.jpg`` each (arrays: ``image_<number>.jpg``).

        Returns:
            One :class:`Detections` a picture, in the order given.

        Raises:
            UserError: a path that does not exist, a folder without pictures, a file or array that is no picture.
        """
        sources = list(_expand(images))
        out_paths = _out_paths(sources, Path(out_dir)) if out_dir is not None else [None] * len(sources)
        results = []
        for source, out_path in zip(sources, out_paths):
            kept = self._run(source).above(score_thr)
            if out_path is not None:
                self._draw(source, kept, score_thr, out_path)
            names = [self.classes[i] if i < len(self.classes) else f'class {i}' for i in kept.labels]
            results.append(Detections(None if isinstance(source, np.ndarray) else str(source), kept.boxes, kept.scores,
                                      kept.labels, names, kept.masks))
        return results

    def _run(self, source: Path | np.ndarray) -> Objects:
        if isinstance(source, np.ndarray):
            if source.ndim != 3 or source.shape[2] != 3 or source.dtype != np.uint8:
                raise UserError(f'image array: expected (H, W, 3) uint8 in BGR order, got {source.shape} '
                                f'{source.dtype}')
            data = self._from_array(dict(img=source, img_id=0))
        else:
            try:
                data = self._from_file(dict(img_path=str(source), img_id=0))
            except Exception as error:  # whatever decoder is at work
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                raise UserError(f'{source} cannot be read as a picture ({reason})') from error
        sample = self.model.test_step(dict(inputs=[data['inputs']], data_samples=[data['data_samples']]))[0]
        found = predicted_objects(sample, tuple(sample.ori_shape[:2]))
        best_first = np.argsort(-found.scores, kind='stable')
        return Objects(found.boxes[best_first], found.labels[best_first], found.scores[best_first],
                       None if found.masks is None else found.masks[best_first])

    def _draw(self, source: Path | np.ndarray, found: Objects, score_thr: float, out_path: Path) -> None:
        image = source if isinstance(source, np.ndarray) else cv2.imread(str(source), cv2.IMREAD_COLOR)
        figure = draw_predictions_beside_truth(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), found, None, self.classes,
                                               score_thr)
        out_path.parent.mkdir(parents=True, exist_ok=True)
        if not cv2.imwrite(str(out_path), cv2.cvtColor(figure, cv2.COLOR_RGB2BGR)):
            raise UserError(f'{out_path} cannot be written; choose another folder')


def _configs() -> dict[str, Path]:
    folder = next((folder for folder in _CONFIG_DIRS if folder.is_dir()), _CONFIG_DIRS[0])
    return {path.stem: path for path in folder.rglob('*.py') if '_base_' not in path.parts}


def _find_config(name: str) -> str:
    if name.endswith(('.py', '.json', '.yaml', '.yml')) or '::' in name:
        return name
    known = _configs()
    if name not in known:
        raise UserError(f'model {name!r} is unknown{near(name, known)}; Inferencer.list_models() names them, a path '
                        'must end in .py')
    return str(known[name])


def _find_checkpoint(path: Path) -> Path:
    if not path.is_dir():
        return path
    best = sorted(path.glob('best_*.pth'), key=lambda file: file.stat().st_mtime)
    newest = best[-1] if best else find_newest_checkpoint(str(path))
    if newest is None:
        raise UserError(f'{path} holds no checkpoint (best_*.pth, iter_*.pth, epoch_*.pth); has training written one?')
    return Path(newest)


def _check_complete(model: nn.Module, matched: list[str], path: Path) -> None:
    """A checkpoint of a backbone alone loads for training, but cannot predict."""
    lacking = sorted({name.split('.')[0] for name in model.state_dict()} - {name.split('.')[0] for name in matched})
    if lacking:
        raise UserError(f'{path} has no weights for {", ".join(lacking)}; it is a start for training, not a detector')


def _config_classes(cfg: Config) -> Sequence[str]:
    for _, dataset in leaf_datasets(cfg.test_dataloader.dataset, ''):
        return dataset_classes(dataset) or ()
    return ()


def _pipelines(cfg: Config) -> tuple[Any, Any]:
    """The test pipeline without annotations: from a file, and from an array."""
    from mmengine.dataset import Compose
    _, dataset = next(leaf_datasets(cfg.test_dataloader.dataset, 'test_dataloader.dataset'))
    steps = [copy.deepcopy(step) for step in dataset['pipeline'] if 'LoadAnnotations' not in step['type']]
    if not steps or not steps[0]['type'].endswith('LoadImageFromFile'):
        raise UserError(f'config {cfg.filename}: the test pipeline must start with LoadImageFromFile')
    steps[-1]['meta_keys'] = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
    return Compose(steps), Compose([dict(type='mmdet.LoadImageFromNDArray'), *steps[1:]])


def _expand(images: Any) -> Iterator[Path | np.ndarray]:
    if isinstance(images, np.ndarray):
        yield images
        return
    if not isinstance(images, (str, Path)):
        for each in images:
            yield from _expand(each)
        return
    path = Path(images)
    if path.is_dir():
        found = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
        if not found:
            raise UserError(f'{path} holds no pictures ({", ".join(IMAGE_SUFFIXES)})')
        yield from found
    elif path.is_file():
        yield path
    else:
        raise UserError(f'{path} does not exist; give a picture or a folder of pictures')


def _out_paths(sources: Sequence[Path | np.ndarray], out_dir: Path) -> list[Path]:
    """One name a picture; pictures of equal names in different folders get a number."""
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
