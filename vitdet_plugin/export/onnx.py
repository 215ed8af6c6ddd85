"""Export of classifiers and detectors to ONNX, verified with ONNX Runtime."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor, nn

from vitdet_plugin.engine.load_model import LoadedModel
from vitdet_plugin.errors import UserError
from vitdet_plugin.export.comparison import difference_of_rows as _difference_of_rows
from vitdet_plugin.export.comparison import (
    extract_maps,
    noise_images,
    paste_masks,
    predict_classes,
    predict_detections,
    real_images,
)
from vitdet_plugin.export.metadata import file_metadata
from vitdet_plugin.export.modules import ExportedClassifier, ExportedDetector, ExportedFeatures
from vitdet_plugin.export.onnx_detector import OnnxClassifier as OnnxClassifier
from vitdet_plugin.export.onnx_file import move_model, write_program
from vitdet_plugin.layers.lora import merge_lora

TOLERANCE = 1e-4  # maximum difference from PyTorch, relative to the largest value of an output


def export_onnx(loaded: LoadedModel, out: str | Path, shape: tuple[int, int], opset: int = 18,
                features: bool = False) -> float:
    """Export a model to an ONNX file and compare the outputs of ONNX Runtime with the model's own predictions.

    The file is written under another name and moved to ``out`` when the comparison has passed, so that an earlier file
    is kept if it fails. Weights of more than :data:`EXTERNAL_ABOVE` bytes are written to ``out`` + '.data'.

    Args:
        loaded: A classifier or a detector.
        out: Output file. Its metadata contains the class names, the input shape and the test pipeline.
        shape: Height and width of the input in pixels; the batch size is 1.
        opset: Version of the ONNX operator set.
        features: Whether to export only the backbone and neck of a detector.

    Returns:
        The maximum difference of the outputs, relative to the largest value.

    Raises:
        UserError: If packages are missing, the model cannot be exported, the file has another opset, or the outputs
            differ by more than 1e-4.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401  torch's exporter needs it
    except ImportError as error:
        raise UserError(f'ONNX export requires the package {error.name}. Run pip install "vitdet-plugin[onnx]".'
                        ) from error
    kind = ExportedClassifier if loaded.is_classifier else ExportedFeatures if features else ExportedDetector
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with torch.no_grad(), _quiet():
        try:
            model = kind(loaded.model.cpu()).eval()
            images = _choose_images(model, loaded.cfg, shape)
            references = [_Reference(model, image) for image in images]
            merge_lora(model)
            program = torch.onnx.export(model, (images[0],), dynamo=True, opset_version=opset, input_names=['image'],
                                        output_names=list(model.output_names), verbose=False)
        except UserError:
            raise
        except Exception as error:  # the exporter can raise any exception
            raise UserError(f'the model cannot be exported with an input of {shape[0]} x {shape[1]} pixels: '
                            f'{_reason(error)}') from error
    with tempfile.TemporaryDirectory(dir=out.parent, prefix='.export-') as folder:
        draft = Path(folder) / out.name
        write_program(program, draft, opset, file_metadata(loaded, shape, model.preprocess))
        difference = _compare(draft, references, shape)
        if not difference <= TOLERANCE:
            raise UserError(f'{out}: not written, because the outputs of ONNX Runtime and PyTorch differ by '
                            f'{difference:.1e} of the largest value; try another --opset, or --features.')
        move_model(draft, out)
    if kind is ExportedDetector and not any(reference.count for reference in references):
        print(f'warning: {out}: the model detects nothing in the images of the comparison; compare the file on images '
              'of your own', file=sys.stderr)
    return difference


class _Reference:
    """What PyTorch computes for an image: the outputs of the exported module, and the predictions of the model."""

    def __init__(self, model: nn.Module, image: Tensor) -> None:
        outputs = model(image)
        self.image = image
        self.outputs = (outputs,) if isinstance(outputs, Tensor) else outputs
        self.is_detector = isinstance(model, ExportedDetector)
        predict = predict_detections if self.is_detector else extract_maps if isinstance(model, ExportedFeatures) else \
            predict_classes
        predicted = predict(model.model, image)
        self.predicted = (predicted,) if isinstance(predicted, Tensor) else predicted
        self.count = len(self.predicted[0]) if self.is_detector else 0

    def difference(self, found: list[np.ndarray]) -> float:
        """Return the maximum difference of the outputs of ONNX Runtime, relative to the largest value."""
        if not self.is_detector:
            return max(_difference(a, b) for reference in (self.outputs, self.predicted)
                       for a, b in zip(found, reference, strict=True))
        shape = tuple(self.image.shape[2:])
        difference = _difference_of_rows(found, self.outputs, max(shape))
        if len(found) > 3:
            found = [*found[:3], paste_masks(found[3], found[0], shape)]
        return max(difference, _difference_of_rows(found, self.predicted, max(shape), steps=255))


def _compare(path: Path, references: list[_Reference], shape: tuple[int, int]) -> float:
    import onnxruntime
    try:
        session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
        outputs = [session.run(None, {'image': reference.image.numpy()}) for reference in references]
    except Exception as error:  # the errors of ONNX Runtime have no common base class
        raise UserError(f'{path.name}: not written, because ONNX Runtime cannot run it with an input of {shape[0]} x '
                        f'{shape[1]} pixels ({_reason(error)}); try another --opset') from error
    return max(reference.difference(found) for reference, found in zip(references, outputs, strict=True))


def _choose_images(model: nn.Module, cfg: Config, shape: tuple[int, int]) -> list[Tensor]:
    """Return images of the test set and noise; for detectors, noise of the scale with the most detections."""
    channels = model.preprocess.channels
    noise = noise_images(shape, channels)
    if isinstance(model, ExportedDetector):
        noise.sort(key=lambda image: -int((model(image)[1] > 0).sum()))
    return [noise[0], *real_images(cfg, shape, channels)]


def _reason(error: BaseException) -> str:
    while error.__cause__ is not None:  # the first exception names the failed step, the last one the reason
        error = error.__cause__
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _difference(found: np.ndarray, expected: Tensor) -> float:
    reference = expected.numpy()
    return float(np.abs(found - reference).max() / max(np.abs(reference).max(), 1e-12))


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
