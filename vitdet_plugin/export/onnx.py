"""Export of classifiers and detectors to ONNX, verified with ONNX Runtime."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vitdet_plugin.config.dataset_config import leaf_datasets
from vitdet_plugin.engine.load_model import LoadedModel
from vitdet_plugin.errors import UserError
from vitdet_plugin.export.detectors import exportable_heads
from vitdet_plugin.export.onnx_session import open_session

TOLERANCE = 1e-4  # maximum difference from PyTorch, relative to the largest value of an output


class ExportedClassifier(nn.Module):
    """Classifier with normalization included.

    ``forward`` takes RGB images of shape ``(B, 3, H, W)`` with values from 0 to 255 and returns probabilities of shape
    ``(B, num_classes)``.
    """

    output_names = ('scores',)

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.normalize = model, _Normalize(model.data_preprocessor)

    def forward(self, image: Tensor) -> Tensor:
        return self.model(self.normalize(image), mode='tensor').softmax(1)


class ExportedFeatures(nn.Module):
    """Backbone and neck of a detector with normalization included.

    ``forward`` takes RGB images of shape ``(B, 3, H, W)`` with values from 0 to 255 and returns the feature maps.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.normalize = model, _Normalize(model.data_preprocessor)
        with torch.no_grad():
            side = max(getattr(model.backbone, 'out_strides', (32,))[-1], model.data_preprocessor.pad_size_divisor, 32)
            count = len(model.extract_feat(torch.zeros(1, 3, 2 * side, 2 * side, device=_device(model))))
        self.output_names = tuple(f'map_{level}' for level in range(count))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.model.extract_feat(self.normalize(image)))


class ExportedDetector(nn.Module):
    """Detector with normalization and post-processing included.

    ``forward`` takes an RGB image of shape ``(1, 3, H, W)`` with values from 0 to 255 and returns the outputs of
    :mod:`vitdet_plugin.export.detectors`, with boxes in pixels of the image, highest score first.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.normalize, self.heads = model, _Normalize(model.data_preprocessor), exportable_heads(model)
        self.output_names = self.heads.output_names

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return self.heads(tuple(self.model.extract_feat(self.normalize(image))), tuple(image.shape[2:]))


class _Normalize(nn.Module):
    """Normalize RGB images of shape ``(B, 3, H, W)`` as a data preprocessor does, in its channel order."""

    def __init__(self, preprocessor: nn.Module) -> None:
        super().__init__()
        swaps = getattr(preprocessor, '_channel_conversion', None)  # mmdet's attribute
        if swaps is None:
            swaps = getattr(preprocessor, 'to_rgb', False)
        self.keeps_rgb = bool(swaps)  # pipelines load BGR
        one = torch.ones(1)
        mean, std = (getattr(preprocessor, name, None) for name in ('mean', 'std'))
        self.register_buffer('mean', (0 * one if mean is None else mean).detach().clone().view(1, -1, 1, 1))
        self.register_buffer('std', (one if std is None else std).detach().clone().view(1, -1, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        return ((image if self.keeps_rgb else image.flip(1)) - self.mean) / self.std


def export_onnx(loaded: LoadedModel, out: str | Path, shape: tuple[int, int], opset: int = 18,
                features: bool = False) -> float:
    """Export a model to an ONNX file and compare the outputs of ONNX Runtime and PyTorch.

    Args:
        loaded: A classifier or a detector.
        out: Output file. Its metadata contains the class names, the input shape and the test pipeline.
        shape: Height and width of the input in pixels; the batch size is 1.
        opset: Version of the ONNX operator set.
        features: Whether to export only the backbone and neck of a detector.

    Returns:
        The maximum difference of the outputs, relative to the largest value.

    Raises:
        UserError: If packages are missing, the model cannot be exported, or the outputs differ by more than 1e-4.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  torch's exporter needs it
    except ImportError as error:
        raise UserError(f'ONNX export requires the package {error.name}. Run pip install "vitdet-plugin[onnx]".'
                        ) from error
    kind = ExportedClassifier if loaded.is_classifier else ExportedFeatures if features else ExportedDetector
    model = kind(loaded.model.cpu()).eval()
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with torch.no_grad(), _quiet():
        try:
            image, expected = _example(model, shape)
            torch.onnx.export(model, (image,), str(out), dynamo=True, external_data=False, opset_version=opset,
                              input_names=['image'], output_names=list(model.output_names), verbose=False)
        except UserError:
            raise
        except Exception as error:  # the exporter can raise any exception
            cause: BaseException = error
            while cause.__cause__ is not None:  # the first exception names the failed step, the last one the reason
                cause = cause.__cause__
            reason = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
            raise UserError(f'the model cannot be exported with an input of {shape[0]} x {shape[1]} pixels: {reason}'
                            ) from error
    content = onnx.load(str(out))
    for key, value in _metadata(loaded, shape, model.normalize).items():
        content.metadata_props.add(key=key, value=value)
    onnx.save(content, str(out))
    session = onnxruntime.InferenceSession(str(out), providers=['CPUExecutionProvider'])
    found = session.run(None, {'image': image.numpy()})
    if kind is ExportedDetector:
        difference = _difference_of_rows(found, expected, max(shape))
    else:
        difference = max(_difference(a, b) for a, b in zip(found, expected, strict=True))
    if not difference <= TOLERANCE:
        raise UserError(f'{out}: the outputs of ONNX Runtime and PyTorch differ by {difference:.1e} of the largest '
                        'value. Do not use this file; try another --opset.')
    return difference


class OnnxClassifier:
    """Classifier loaded from an ONNX file written by :func:`export_onnx`, executed by ONNX Runtime.

    Args:
        path: The ONNX file.

    Attributes:
        classes: Names of the classes; empty if unknown.
        shape: Height and width of the input in pixels.

    Raises:
        UserError: If the file does not exist or was not written by :func:`export_onnx` for a classifier.
    """

    def __init__(self, path: str | Path) -> None:
        self.session, about = open_session(path, 'classifier', 'scores', 'pipeline')
        self.classes = json.loads(about['classes'])
        self.shape = tuple(json.loads(about['shape']))
        self._steps = json.loads(about['pipeline'])
        self._pipeline = None

    def __call__(self, source: str | Path) -> np.ndarray:
        """Classify an image.

        Args:
            source: Image file.

        Returns:
            Probabilities of shape ``(num_classes,)``.

        Raises:
            UserError: If the output of the test pipeline does not have the exported input shape.
        """
        if self._pipeline is None:
            from mmengine.dataset import Compose
            from mmengine.registry import init_default_scope
            init_default_scope('mmpretrain')
            self._pipeline = Compose(self._steps)
        image = self._pipeline(dict(img_path=str(source)))['inputs'].numpy()[::-1]  # loaded as BGR
        if image.shape[1:] != self.shape:
            raise UserError(f'{source}: the test pipeline returns {image.shape[1]} x {image.shape[2]} pixels, but the '
                            f'exported model requires {self.shape[0]} x {self.shape[1]}. Export with this --shape.')
        return self.session.run(None, {'image': np.ascontiguousarray(image[None], np.float32)})[0][0]


def _metadata(loaded: LoadedModel, shape: tuple[int, int], normalize: _Normalize) -> dict[str, str]:
    about: dict[str, Any] = dict(classes=loaded.classes or [], shape=list(shape), input='RGB, 0 to 255')
    mean = normalize.mean.flatten().expand(3)
    about['padding'] = (mean if normalize.keeps_rgb else mean.flip(0)).tolist()  # RGB; zero after normalization
    loader = loaded.cfg.get('test_dataloader')
    for _, dataset in leaf_datasets(loader.dataset, '') if loader else ():
        about['pipeline'] = [dict(step) for step in dataset.get('pipeline') or ()]
    return {key: json.dumps(value) for key, value in about.items()}


def _difference(found: np.ndarray, expected: Tensor) -> float:
    reference = expected.numpy()
    return float(np.abs(found - reference).max() / max(np.abs(reference).max(), 1e-12))


def _example(model: nn.Module, shape: tuple[int, int]) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return a noise image and the outputs of the model; for detectors, the noise scale with the most detections."""
    random = torch.Generator().manual_seed(0)
    examples = []
    for cell in (1, 8, 32) if isinstance(model, ExportedDetector) else (1,):
        noise = torch.randint(0, 256, (1, 3, *(-(-side // cell) for side in shape)), generator=random).float()
        image = noise.repeat_interleave(cell, 2).repeat_interleave(cell, 3)[..., :shape[0], :shape[1]].contiguous()
        outputs = model(image)
        examples.append((image, (outputs,) if isinstance(outputs, Tensor) else outputs))
    return max(examples, key=lambda each: int((each[1][1] > 0).sum())) if len(examples) > 1 else examples[0]


def _difference_of_rows(found: list[np.ndarray], expected: tuple[Tensor, ...], side: int) -> float:
    """Return the maximum difference of detections from their nearest row, as rows of equal score can be swapped.

    One row in a hundred is not compared, since rounding can change the result of NMS for an IoU near the threshold.

    Args:
        found: Boxes, scores, labels and optionally masks of ONNX Runtime.
        expected: The same outputs of PyTorch.
        side: Longer side of the image in pixels; box differences are relative to it.
    """
    boxes, scores, labels, *masks = (each.numpy() for each in expected)
    rows = np.flatnonzero(scores > 0)
    distance = np.maximum(np.abs(boxes[rows, None] - found[0]).max(2) / side, np.abs(scores[rows, None] - found[1]))
    distance[labels[rows, None] != found[2]] = np.inf
    if not len(rows):
        return float(np.abs(scores - found[1]).max())
    nearest = distance.argmin(1)
    difference = distance[np.arange(len(rows)), nearest]
    for mask, other in zip(masks, found[3:]):
        difference = np.maximum(difference, np.abs(mask[rows] - other[nearest]).max((1, 2)))
    return float(np.sort(difference)[len(rows) - 1 - len(rows) // 100])


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the output and warnings of torch's exporter."""
    levels = {name: logging.getLogger(name).level for name in ('torch.onnx', 'onnx_ir')}
    for name in levels:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter('ignore')
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
