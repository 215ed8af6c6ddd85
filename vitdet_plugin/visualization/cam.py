"""Class activation maps of classifiers and, for each detected box, of detectors, through pytorch-grad-cam.

Which layer is looked at, and how its output becomes a map, depends on the backbone
(:func:`vitdet_plugin.visualization.cam_layers.cam_layer`); by default it is the last map that it returns.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitdet_plugin.engine.inference import TestPipeline
from vitdet_plugin.engine.load_model import LoadedModel
from vitdet_plugin.errors import UserError
from vitdet_plugin.visualization.cam_layers import cam_layer

DEFAULT = 'centred'
# pytorch-grad-cam's classes. Those with the gradient place by place (HiResCAM, LayerCAM) tell objects of one class
# apart; Grad-CAM weighs whole channels. Ours is HiResCAM of the difference from the average place: what all places have
# in common says nothing about any of them.
METHODS = {DEFAULT: None, 'gradcam': 'GradCAM', 'gradcam++': 'GradCAMPlusPlus', 'hirescam': 'HiResCAM',
           'layercam': 'LayerCAM', 'xgradcam': 'XGradCAM', 'eigengradcam': 'EigenGradCAM'}


@dataclass
class Heat:
    """What made a model say one thing about a picture.

    Attributes:
        map: (H, W) float32 in [0, 1] over the network's input, padding included.
        label: class index.
        score: the model's score of it.
        box: (4,) x1, y1, x2, y2 in the network's input; None for a classifier.
    """

    map: np.ndarray
    label: int
    score: float
    box: np.ndarray | None = None


def explain_class(model: nn.Module, inputs: Tensor, labels: Sequence[int | None] = (None,),
                  method: str = DEFAULT) -> list[Heat]:
    """Heat maps of a classifier.

    Args:
        model: mmpretrain's ``ImageClassifier``.
        inputs: (1, C, H, W), preprocessed.
        labels: Classes to explain; None is the one predicted.
        method: A key of ``METHODS``.

    Raises:
        UserError: Unknown method, or a backbone without maps.
    """
    logits = _Logits(model)
    with torch.no_grad():
        scores = logits(inputs)[0].float().softmax(0)
    labels = [int(scores.argmax()) if label is None else label for label in labels]
    with _activation_maps(logits, model.backbone, inputs.shape[-2:], method, every_map=False) as heat_map:
        return [Heat(heat_map(inputs, lambda row, label=label: row[label]), label, float(scores[label]))
                for label in labels]


def explain_boxes(model: nn.Module, inputs: Tensor, data_sample: Any, most: int = 5, score_thr: float = 0.3,
                  method: str = DEFAULT) -> list[Heat]:
    """Heat maps of a detector, one for each of its best boxes: what raises the score of this box.

    Args:
        model: mmdet's detector, one- or two-stage.
        inputs: (1, C, H, W), preprocessed.
        data_sample: The sample's meta information, preprocessed.
        most: At most so many boxes.
        score_thr: Lowest score.
        method: A key of ``METHODS``.

    Raises:
        UserError: Unknown method, or a backbone without maps.
    """
    scores = _BoxScores(model, data_sample)
    with _without_masks(model):
        with torch.no_grad():
            values = scores(inputs)[0]
            boxes, labels = scores.boxes.cpu().numpy(), scores.labels.tolist()
        chosen = [place for place in values.argsort(descending=True).tolist() if values[place] >= score_thr][:most]
        with _activation_maps(scores, model.backbone, inputs.shape[-2:], method, every_map=True) as heat_map:
            return [Heat(heat_map(inputs, lambda row, place=place: row[place]), labels[place], float(values[place]),
                         boxes[place]) for place in chosen]


class CamExplainer:
    """Pictures in, heat maps over them out.

    Args:
        loaded: A classifier or a detector.
        method: A key of ``METHODS``.
    """

    def __init__(self, loaded: LoadedModel, method: str = DEFAULT) -> None:
        self.loaded, self.method = loaded, method
        if loaded.cfg.get('test_dataloader') is None:
            raise UserError(f'config {loaded.cfg.filename} has no test_dataloader, whose pipeline would prepare '
                            'pictures')
        self._pipeline = TestPipeline(loaded.cfg)

    def __call__(self, source: Path | np.ndarray, labels: Sequence[int | None] = (None,), most: int = 5,
                 score_thr: float = 0.3) -> tuple[np.ndarray, list[Heat]]:
        """Explain one picture.

        Args:
            source: Its file, or an array (H, W, 3) uint8 in BGR order.
            labels: For a classifier: classes, None for the one predicted.
            most, score_thr: For a detector: which boxes.

        Returns:
            What the network saw, (H, W, 3) uint8 RGB without padding, and heat maps of the same size.
        """
        from mmengine.dataset import pseudo_collate
        model = self.loaded.model
        packed = self._pipeline(source)
        batch = model.data_preprocessor(pseudo_collate([packed]), False)
        inputs, sample = batch['inputs'], batch['data_samples'][0]
        if self.loaded.is_classifier:
            heats = explain_class(model, inputs, labels, self.method)
        else:
            heats = explain_boxes(model, inputs, sample, most, score_thr, self.method)
        height, width = packed['inputs'].shape[-2:]
        seen = packed['inputs'].permute(1, 2, 0).numpy()[..., ::-1]  # pipelines load BGR
        for heat in heats:
            heat.map = heat.map[:height, :width]
        return np.ascontiguousarray(seen), heats


class _Logits(nn.Module):
    """A classifier's logits as a function of its input alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor) -> Tensor:
        logits = self.model(inputs, mode='tensor')
        return logits[-1] if isinstance(logits, (tuple, list)) else logits


class _BoxScores(nn.Module):
    """The scores (1, N) of a detector's boxes, with their gradient; the boxes themselves are attributes."""

    def __init__(self, model: nn.Module, data_sample: Any) -> None:
        super().__init__()
        self.model, self.data_sample = model, data_sample
        self.boxes = self.labels = None

    def forward(self, inputs: Tensor) -> Tensor:
        found = self.model.predict(inputs, [copy.deepcopy(self.data_sample)], rescale=False)[0].pred_instances
        boxes = found.bboxes.tensor if hasattr(found.bboxes, 'tensor') else found.bboxes
        self.boxes, self.labels = boxes.detach(), found.labels
        return found.scores[None]


@contextlib.contextmanager
def _activation_maps(scores: nn.Module, backbone: nn.Module, image_hw: tuple[int, int], method: str,
                     every_map: bool) -> Iterator[Callable[[Tensor, Callable], np.ndarray]]:
    """A function (input, target of a row of scores) -> (H, W) map, while pytorch-grad-cam's hooks are in place."""
    if method not in METHODS:
        raise UserError(f'method {method!r} is unknown; choose one of {", ".join(METHODS)}')
    try:
        import pytorch_grad_cam
    except ImportError as error:
        raise UserError('activation maps need the package grad-cam: pip install "vitdet-plugin[cam]"') from error
    with contextlib.ExitStack() as stack:
        stack.enter_context(_without_recomputation(backbone))
        layers, reshape = stack.enter_context(_tapped(backbone, image_hw, every_map))
        kind = getattr(pytorch_grad_cam, METHODS[method]) if METHODS[method] else _centred_hirescam()
        engine = stack.enter_context(kind(model=scores, target_layers=layers, reshape_transform=reshape))

        def heat_map(inputs: Tensor, target: Callable[[Tensor], Tensor]) -> np.ndarray:
            with torch.enable_grad():  # of the input: frozen layers have no parameters that ask for a gradient
                found = engine(inputs.detach().requires_grad_(), [target])[0]
            scores.zero_grad(set_to_none=True)
            return np.nan_to_num(found).astype(np.float32)

        yield heat_map


def _centred_hirescam() -> type:
    from pytorch_grad_cam import HiResCAM

    class CentredHiResCAM(HiResCAM):
        def get_cam_image(self, input_tensor, target_layer, target_category, activations, grads, eigen_smooth):
            activations = activations - activations.mean((2, 3), keepdims=True)
            return super().get_cam_image(input_tensor, target_layer, target_category, activations, grads, eigen_smooth)

    return CentredHiResCAM


@contextlib.contextmanager
def _tapped(backbone: nn.Module, image_hw: tuple[int, int],
            every_map: bool) -> Iterator[tuple[list[nn.Module], Callable[[Tensor], Tensor] | None]]:
    """The module whose output is looked at, and its output as a map: the backbone's own choice, or behind its maps."""
    chosen = None if every_map else cam_layer(backbone)
    if chosen is not None:
        module, as_map = chosen
        yield [module], lambda activation: as_map(activation, tuple(image_hw))
        return
    tap = _MapTap(every_map)

    def behind(_module: nn.Module, _args: Any, maps: Any) -> Any:
        maps = tuple(maps) if isinstance(maps, (tuple, list)) else (maps,)
        if any(each.dim() != 4 for each in maps):
            raise UserError(f'{type(backbone).__name__} returns no maps (B, C, H, W) but {tuple(maps[-1].shape)}; '
                            'set its option for a feature map, if it has one')
        return tap.look_at(maps)

    handle = backbone.register_forward_hook(behind)
    try:
        yield [tap], tap.as_map
    finally:
        handle.remove()


class _MapTap(nn.Module):
    """One tensor out of the backbone's maps and back, for a hook: all their values in a row.

    As one map, the coarser ones are enlarged to the finest and the channels put one behind the other; values shrink
    with the enlargement, so that the sum of (activation x gradient) over places stays that of each map.
    """

    def __init__(self, every_map: bool) -> None:
        super().__init__()
        self.every_map = every_map
        self._shapes: list[torch.Size] = []

    def look_at(self, maps: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        before, seen = ((), maps) if self.every_map else (maps[:-1], maps[-1:])
        self._shapes = [each.shape for each in seen]
        row = self(torch.cat([each.flatten(1) for each in seen], 1))
        return before + self._parts(row)

    def forward(self, row: Tensor) -> Tensor:
        return row

    def as_map(self, row: Tensor) -> Tensor:
        """(B, all values) -> (B, sum of C_i, H, W of the finest)."""
        parts = self._parts(row)
        finest = max((part.shape[-2:] for part in parts), key=lambda hw: hw[0] * hw[1])
        shrink = [(part.shape[-2] * part.shape[-1] / (finest[0] * finest[1])) ** 0.5 for part in parts]
        return torch.cat([F.interpolate(part.float(), size=finest) * factor
                          for part, factor in zip(parts, shrink)], 1)

    def _parts(self, row: Tensor) -> tuple[Tensor, ...]:
        sizes = [shape[1:].numel() for shape in self._shapes]
        return tuple(part.unflatten(1, shape[1:]) for part, shape in zip(row.split(sizes, 1), self._shapes))


@contextlib.contextmanager
def _without_recomputation(backbone: nn.Module) -> Iterator[None]:
    """Recomputed blocks would call the hooks twice."""
    recomputing = [module for module in backbone.modules() if getattr(module, 'with_cp', False)]
    for module in recomputing:
        module.with_cp = False
    try:
        yield
    finally:
        for module in recomputing:
            module.with_cp = True


@contextlib.contextmanager
def _without_masks(model: nn.Module) -> Iterator[None]:
    """Masks of all boxes cost time and have no part in the scores."""
    head = getattr(model, 'roi_head', None)
    masks = getattr(head, 'mask_head', None)
    if masks is not None:
        head.mask_head = None
    try:
        yield
    finally:
        if masks is not None:
            head.mask_head = masks
