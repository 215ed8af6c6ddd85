"""Heat maps of the classes of classifiers and of the boxes of detectors.

Boxes of DETR-style detectors are explained by the attention of their query
(:class:`vitdet_plugin.visualization.query_attention.QueryAttention`), everything else by class activation maps,
computed by pytorch-grad-cam. The explained layer, and how its output becomes a feature map, depend on the backbone
(:func:`vitdet_plugin.visualization.cam_layers.cam_layer`); the default is the last feature map that it returns.
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
from torch import Tensor, nn

from vitdet_plugin.engine.inference import TestPipeline
from vitdet_plugin.engine.load_model import LoadedModel
from vitdet_plugin.errors import UserError
from vitdet_plugin.visualization.cam_layers import cam_layer
from vitdet_plugin.visualization.map_concat import MapConcat
from vitdet_plugin.visualization.query_attention import QueryAttention, has_queries

DEFAULT = 'centered'
# Names of classes of pytorch-grad-cam. Methods with a gradient per location (HiResCAM, LayerCAM) distinguish objects of
# one class, while Grad-CAM weights whole channels. 'centered' is HiResCAM after subtracting the spatial mean of the
# activations, since activations common to all locations carry no information about a single one.
METHODS = {DEFAULT: None, 'gradcam': 'GradCAM', 'gradcam++': 'GradCAMPlusPlus', 'hirescam': 'HiResCAM',
           'layercam': 'LayerCAM', 'xgradcam': 'XGradCAM', 'eigengradcam': 'EigenGradCAM'}
_FORMER = 'centred'  # language: ok (former name)
ATTENTION = 'attention'  # of the decoder; the default of detectors with queries


@dataclass
class HeatMap:
    """Heat map of one prediction.

    Attributes:
        map: Values in [0, 1] over the input of the network including padding, of shape ``(H, W)``, float32.
        label: Class index.
        score: Score of the class or box.
        box: Corners x1, y1, x2, y2 in pixels of the network input, of shape ``(4,)``; None for a classifier.
    """

    map: np.ndarray
    label: int
    score: float
    box: np.ndarray | None = None


def explain_class(model: nn.Module, inputs: Tensor, labels: Sequence[int | None] = (None,),
                  method: str = DEFAULT) -> list[HeatMap]:
    """Compute heat maps of a classifier.

    Args:
        model: mmpretrain's ``ImageClassifier``.
        inputs: Preprocessed image of shape ``(1, C, H, W)``.
        labels: Class indices; None is the predicted class.
        method: A key of :data:`METHODS`.

    Returns:
        One heat map per label.

    Raises:
        UserError: If the method is unknown or the backbone returns no feature maps.
    """
    check_method(method, model)
    logits = _Logits(model)
    with torch.no_grad():
        scores = logits(inputs)[0].float().softmax(0)
    labels = [int(scores.argmax()) if label is None else label for label in labels]
    with _activation_maps(logits, model.backbone, inputs.shape[-2:], method, every_map=False) as heat_map:
        return [HeatMap(heat_map(inputs, lambda row, label=label: row[label]), label, float(scores[label]))
                for label in labels]


def explain_boxes(model: nn.Module, inputs: Tensor, data_sample: Any, max_boxes: int = 5, score_thr: float = 0.3,
                  method: str | None = None) -> list[HeatMap]:
    """Compute heat maps of a detector's boxes: of their scores, or of the attention of their queries.

    Args:
        model: Detector of mmdet.
        inputs: Preprocessed image of shape ``(1, C, H, W)``.
        data_sample: Preprocessed data sample with the meta information of the image.
        max_boxes: Maximum number of boxes, highest score first.
        score_thr: Lowest score of boxes.
        method: A key of :data:`METHODS`, or :data:`ATTENTION`. The default is :data:`ATTENTION` for detectors with
            queries and :data:`DEFAULT` for others.

    Returns:
        One heat map per box.

    Raises:
        UserError: If the method is unknown or not available for this detector, or the backbone returns no feature maps.
    """
    check_method(method, model)
    if method == ATTENTION or (method is None and has_queries(model)):
        return _explain_queries(model, inputs, data_sample, max_boxes, score_thr)
    scores = _BoxScores(model, data_sample)
    with _without_masks(model):
        with torch.no_grad():
            values = scores(inputs)[0]
            boxes, labels = scores.boxes.cpu().numpy(), scores.labels.tolist()
        chosen = _best(values, max_boxes, score_thr)
        with _activation_maps(scores, model.backbone, inputs.shape[-2:], method or DEFAULT, every_map=True) as heat_map:
            return [HeatMap(heat_map(inputs, lambda row, index=index: row[index]), labels[index],
                            float(values[index]), boxes[index]) for index in chosen]


def _explain_queries(model: nn.Module, inputs: Tensor, data_sample: Any, max_boxes: int,
                     score_thr: float) -> list[HeatMap]:
    attention = QueryAttention(model, inputs, data_sample)
    found = attention.found
    heat_maps = []
    for index in _best(found.scores, max_boxes, score_thr):
        density = attention.density(index)
        heat = (density / density.max().clamp(min=1e-12)).cpu().numpy()
        heat_maps.append(HeatMap(heat, int(found.labels[index]), float(found.scores[index]),
                                 _corners(found.bboxes)[index].cpu().numpy()))
    return heat_maps


def check_method(method: str | None, model: nn.Module | None = None) -> None:
    """Check the name of a method.

    Args:
        method: None for the default of the model.
        model: The model; None if it is not loaded yet.

    Raises:
        UserError: The method does not exist, or not for this model.
    """
    if method not in (None, _FORMER, ATTENTION, *METHODS):
        raise UserError(f'unknown method {method!r}. Use one of {", ".join(METHODS)}, or {ATTENTION} for detectors '
                        'with queries.')
    if method == ATTENTION and model is not None and not has_queries(model):
        raise UserError(f'method {ATTENTION!r} requires a detector with queries, such as DINO, not '
                        f'{type(model).__name__}. Use one of {", ".join(METHODS)}.')


def _best(scores: Tensor, max_boxes: int, score_thr: float) -> list[int]:
    """Return the indices of scores of at least ``score_thr``, highest score first."""
    order = scores.argsort(descending=True).tolist()
    return [index for index in order if scores[index] >= score_thr][:max_boxes]


def _corners(boxes: Any) -> Tensor:
    return getattr(boxes, 'tensor', boxes)


class CamExplainer:
    """Compute heat maps of image files or arrays.

    Args:
        loaded: A classifier or a detector.
        method: A key of :data:`METHODS`, or :data:`ATTENTION`; None for the default of the model.

    Raises:
        UserError: If the config has no test pipeline, or the model no such method.
    """

    def __init__(self, loaded: LoadedModel, method: str | None = None) -> None:
        check_method(method, loaded.model)
        self.loaded, self.method = loaded, method
        if loaded.cfg.get('test_dataloader') is None:
            raise UserError(f'config {loaded.cfg.filename} has no test_dataloader. Add one; its pipeline is used to '
                            'load images.')
        self._pipeline = TestPipeline(loaded.cfg)

    def __call__(self, source: Path | np.ndarray, labels: Sequence[int | None] = (None,), max_boxes: int = 5,
                 score_thr: float = 0.3) -> tuple[np.ndarray, list[HeatMap]]:
        """Compute heat maps of one image.

        Args:
            source: Image file, or an array of shape ``(H, W, 3)``, uint8, BGR.
            labels: Class indices for a classifier; None is the predicted class.
            max_boxes: Maximum number of boxes of a detector.
            score_thr: Lowest score of boxes of a detector.

        Returns:
            The input of the network without padding, of shape ``(H, W, 3)``, uint8, RGB, and heat maps of the same
            height and width.
        """
        from mmengine.dataset import pseudo_collate
        model = self.loaded.model
        packed = self._pipeline(source)
        batch = model.data_preprocessor(pseudo_collate([packed]), False)
        inputs, sample = batch['inputs'], batch['data_samples'][0]
        if self.loaded.is_classifier:
            heat_maps = explain_class(model, inputs, labels, self.method or DEFAULT)
        else:
            heat_maps = explain_boxes(model, inputs, sample, max_boxes, score_thr, self.method)
        height, width = packed['inputs'].shape[-2:]
        image = packed['inputs'].permute(1, 2, 0).numpy()[..., ::-1]  # pipelines load BGR
        for each in heat_maps:
            each.map = each.map[:height, :width]
        return np.ascontiguousarray(image), heat_maps


class _Logits(nn.Module):
    """Wrap a classifier as a function from its input to its logits, of shape ``(B, num_classes)``."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor) -> Tensor:
        logits = self.model(inputs, mode='tensor')
        return logits[-1] if isinstance(logits, (tuple, list)) else logits


class _BoxScores(nn.Module):
    """Wrap a detector as a function from its input to the scores of its boxes, of shape ``(1, N)``.

    The boxes and labels of the last call are stored in ``boxes`` and ``labels``.
    """

    def __init__(self, model: nn.Module, data_sample: Any) -> None:
        super().__init__()
        self.model, self.data_sample = model, data_sample
        self.boxes = self.labels = None

    def forward(self, inputs: Tensor) -> Tensor:
        found = self.model.predict(inputs, [copy.deepcopy(self.data_sample)], rescale=False)[0].pred_instances
        self.boxes, self.labels = _corners(found.bboxes).detach(), found.labels
        return found.scores[None]


@contextlib.contextmanager
def _activation_maps(scores: nn.Module, backbone: nn.Module, image_hw: tuple[int, int], method: str,
                     every_map: bool) -> Iterator[Callable[[Tensor, Callable], np.ndarray]]:
    """Register the hooks of pytorch-grad-cam and yield a function that computes heat maps.

    The function takes the input and a function that selects the explained score from a row of scores, and returns a map
    of shape ``(H, W)``.
    """
    method = DEFAULT if method == _FORMER else method
    try:
        import pytorch_grad_cam
    except ImportError as error:
        raise UserError('activation maps require the package grad-cam. Run pip install "vitdet-plugin[cam]".'
                        ) from error
    with contextlib.ExitStack() as stack:
        stack.enter_context(_without_recomputation(backbone))
        layers, reshape = stack.enter_context(_target_layer(backbone, image_hw, every_map))
        kind = getattr(pytorch_grad_cam, METHODS[method]) if METHODS[method] else _centered_hirescam()
        engine = stack.enter_context(kind(model=scores, target_layers=layers, reshape_transform=reshape))

        def heat_map(inputs: Tensor, target: Callable[[Tensor], Tensor]) -> np.ndarray:
            with torch.enable_grad():  # the input requires a gradient, as parameters of frozen layers do not
                found = engine(inputs.detach().requires_grad_(), [target])[0]
            scores.zero_grad(set_to_none=True)
            return np.nan_to_num(found).astype(np.float32)

        yield heat_map


def _centered_hirescam() -> type:
    from pytorch_grad_cam import HiResCAM

    class CenteredHiResCAM(HiResCAM):
        def get_cam_image(self, input_tensor, target_layer, target_category, activations, grads, eigen_smooth):
            activations = activations - activations.mean((2, 3), keepdims=True)
            return super().get_cam_image(input_tensor, target_layer, target_category, activations, grads, eigen_smooth)

    return CenteredHiResCAM


@contextlib.contextmanager
def _target_layer(backbone: nn.Module, image_hw: tuple[int, int],
                  every_map: bool) -> Iterator[tuple[list[nn.Module], Callable[[Tensor], Tensor] | None]]:
    """Yield the explained module, and a function that converts its output to a feature map.

    The module is the one selected by the backbone, or a :class:`MapConcat` inserted after the backbone.
    """
    chosen = None if every_map else cam_layer(backbone)
    if chosen is not None:
        module, as_map = chosen
        yield [module], lambda activation: as_map(activation, tuple(image_hw))
        return
    concat = MapConcat(every_map)

    def hook(_module: nn.Module, _args: Any, maps: Any) -> Any:
        maps = tuple(maps) if isinstance(maps, (tuple, list)) else (maps,)
        if any(each.dim() != 4 for each in maps):
            raise UserError(f'{type(backbone).__name__} returns an output of shape {tuple(maps[-1].shape)} instead of '
                            'feature maps (B, C, H, W). Set its option to return feature maps, if there is one.')
        return concat.replace(maps)

    handle = backbone.register_forward_hook(hook)
    try:
        yield [concat], concat.as_map
    finally:
        handle.remove()


@contextlib.contextmanager
def _without_recomputation(backbone: nn.Module) -> Iterator[None]:
    """Disable activation checkpointing, which would call the hooks twice."""
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
    """Disable the mask head, which is slow and does not influence the scores."""
    head = getattr(model, 'roi_head', None)
    masks = getattr(head, 'mask_head', None)
    if masks is not None:
        head.mask_head = None
    try:
        yield
    finally:
        if masks is not None:
            head.mask_head = masks
