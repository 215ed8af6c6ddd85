"""ONNX files of classifiers and detectors, checked against ONNX Runtime as they are written."""

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
from vitdet_plugin.export.detectors import whole_detector
from vitdet_plugin.export.onnx_session import open_session

TOLERANCE = 1e-4  # largest difference from PyTorch, relative to the largest value of an output


class ExportedClassifier(nn.Module):
    """Pictures (B, 3, H, W), RGB in 0 ... 255, to probabilities (B, num_classes); normalisation included."""

    output_names = ('scores',)

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.normalise = model, _Normalise(model.data_preprocessor)

    def forward(self, image: Tensor) -> Tensor:
        return self.model(self.normalise(image), mode='tensor').softmax(1)


class ExportedFeatures(nn.Module):
    """Pictures (B, 3, H, W), RGB in 0 ... 255, to the maps of the backbone and neck; normalisation included."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.normalise = model, _Normalise(model.data_preprocessor)
        with torch.no_grad():
            side = max(getattr(model.backbone, 'out_strides', (32,))[-1], model.data_preprocessor.pad_size_divisor, 32)
            count = len(model.extract_feat(torch.zeros(1, 3, 2 * side, 2 * side, device=_device(model))))
        self.output_names = tuple(f'map_{level}' for level in range(count))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.model.extract_feat(self.normalise(image)))


class ExportedDetector(nn.Module):
    """Pictures (1, 3, H, W), RGB in 0 ... 255, to boxes in their pixels, best first; see ``export.detectors``."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.normalise, self.heads = model, _Normalise(model.data_preprocessor), whole_detector(model)
        self.output_names = self.heads.output_names

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return self.heads(tuple(self.model.extract_feat(self.normalise(image))), tuple(image.shape[2:]))


class _Normalise(nn.Module):
    """What a data preprocessor does to RGB pictures, in its own order of channels."""

    def __init__(self, preprocessor: nn.Module) -> None:
        super().__init__()
        swaps = getattr(preprocessor, '_channel_conversion', None)  # mmdet's: True if its input order is turned round
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
    """Write a model to an ONNX file and compare ONNX Runtime's outputs with PyTorch's.

    Args:
        loaded: A classifier or a detector.
        out: File to write. Class names, input shape and the test pipeline go into its metadata.
        shape: Height and width of the input in pixels; the batch is 1.
        opset: Version of the operators.
        features: Of a detector only backbone and neck.

    Returns:
        The largest difference of the outputs, relative to the largest value.

    Raises:
        UserError: Packages are missing, the model cannot be exported, or the outputs differ by more than 1e-4.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  torch's exporter needs it
    except ImportError as error:
        raise UserError(f'ONNX export needs the package {error.name}: pip install "vitdet-plugin[onnx]"') from error
    kind = ExportedClassifier if loaded.is_classifier else ExportedFeatures if features else ExportedDetector
    model = kind(loaded.model.cpu()).eval()
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with torch.no_grad(), _quiet():
        try:
            image, expected = _try(model, shape)
            torch.onnx.export(model, (image,), str(out), dynamo=True, external_data=False, opset_version=opset,
                              input_names=['image'], output_names=list(model.output_names), verbose=False)
        except UserError:
            raise
        except Exception as error:  # the exporter fails in as many ways as there are models
            cause: BaseException = error
            while cause.__cause__ is not None:  # the first says which of its steps failed, the last why
                cause = cause.__cause__
            reason = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
            raise UserError(f'the model cannot be exported at {shape[0]} x {shape[1]} pixels: {reason}') from error
    content = onnx.load(str(out))
    for key, value in _metadata(loaded, shape, model.normalise).items():
        content.metadata_props.add(key=key, value=value)
    onnx.save(content, str(out))
    session = onnxruntime.InferenceSession(str(out), providers=['CPUExecutionProvider'])
    found = session.run(None, {'image': image.numpy()})
    if kind is ExportedDetector:
        difference = _difference_of_rows(found, expected, max(shape))
    else:
        difference = max(_difference(a, b) for a, b in zip(found, expected, strict=True))
    if not difference <= TOLERANCE:
        raise UserError(f'{out}: ONNX Runtime differs from PyTorch by {difference:.1e} of the largest value')
    return difference


class OnnxClassifier:
    """A classifier out of an ONNX file of :func:`export_onnx`, run by ONNX Runtime.

    Attributes:
        classes: names of its labels, as far as the file has them.
    """

    def __init__(self, path: str | Path) -> None:
        self.session, about = open_session(path, 'classifier', 'scores', 'pipeline')
        self.classes = json.loads(about['classes'])
        self.shape = tuple(json.loads(about['shape']))
        self._steps = json.loads(about['pipeline'])
        self._pipeline = None

    def __call__(self, picture: str | Path) -> np.ndarray:
        """Probabilities (num_classes,) of a picture file.

        Raises:
            UserError: The pipeline makes a picture of another size than the exported one.
        """
        if self._pipeline is None:
            from mmengine.dataset import Compose
            from mmengine.registry import init_default_scope
            init_default_scope('mmpretrain')
            self._pipeline = Compose(self._steps)
        image = self._pipeline(dict(img_path=str(picture)))['inputs'].numpy()[::-1]  # loaded as BGR
        if image.shape[1:] != self.shape:
            raise UserError(f'{picture}: the pipeline makes {image.shape[1]} x {image.shape[2]} pixels, the exported '
                            f'model takes {self.shape[0]} x {self.shape[1]}')
        return self.session.run(None, {'image': np.ascontiguousarray(image[None], np.float32)})[0][0]


def _metadata(loaded: LoadedModel, shape: tuple[int, int], normalise: _Normalise) -> dict[str, str]:
    about: dict[str, Any] = dict(classes=loaded.classes or [], shape=list(shape), input='RGB, 0 to 255')
    mean = normalise.mean.flatten().expand(3)
    about['padding'] = (mean if normalise.keeps_rgb else mean.flip(0)).tolist()  # RGB; zero after normalisation
    loader = loaded.cfg.get('test_dataloader')
    for _, dataset in leaf_datasets(loader.dataset, '') if loader else ():
        about['pipeline'] = [dict(step) for step in dataset.get('pipeline') or ()]
    return {key: json.dumps(value) for key, value in about.items()}


def _difference(found: np.ndarray, expected: Tensor) -> float:
    reference = expected.numpy()
    return float(np.abs(found - reference).max() / max(np.abs(reference).max(), 1e-12))


def _try(model: nn.Module, shape: tuple[int, int]) -> tuple[Tensor, tuple[Tensor, ...]]:
    """A picture and the model's outputs for it: of noise of several sizes the one in which most boxes are found."""
    random = torch.Generator().manual_seed(0)
    tried = []
    for cell in (1, 8, 32) if isinstance(model, ExportedDetector) else (1,):
        noise = torch.randint(0, 256, (1, 3, *(-(-side // cell) for side in shape)), generator=random).float()
        image = noise.repeat_interleave(cell, 2).repeat_interleave(cell, 3)[..., :shape[0], :shape[1]].contiguous()
        outputs = model(image)
        tried.append((image, (outputs,) if isinstance(outputs, Tensor) else outputs))
    return max(tried, key=lambda each: int((each[1][1] > 0).sum())) if len(tried) > 1 else tried[0]


def _difference_of_rows(found: list[np.ndarray], expected: tuple[Tensor, ...], side: int) -> float:
    """Largest difference of a detected box, score or mask from its nearest row; equal scores may change places.

    One row in a hundred may have no partner: rounding decides about an overlap just at the limit.
    """
    boxes, scores, labels, *masks = (each.numpy() for each in expected)
    rows = np.flatnonzero(scores > 0)
    distance = np.maximum(np.abs(boxes[rows, None] - found[0]).max(2) / side, np.abs(scores[rows, None] - found[1]))
    distance[labels[rows, None] != found[2]] = np.inf
    if not len(rows):
        return float(np.abs(scores - found[1]).max())
    partner = distance.argmin(1)
    nearest = distance[np.arange(len(rows)), partner]
    for mask, other in zip(masks, found[3:]):
        nearest = np.maximum(nearest, np.abs(mask[rows] - other[partner]).max((1, 2)))
    return float(np.sort(nearest)[len(rows) - 1 - len(rows) // 100])


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """torch's exporter prints its steps and warns of its own parts."""
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
