"""Export of classifiers and detectors to ONNX, verified with ONNX Runtime."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import tempfile
import warnings
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vitdet_plugin.engine.load_model import LoadedModel
from vitdet_plugin.errors import UserError
from vitdet_plugin.export.metadata import file_metadata
from vitdet_plugin.export.modules import ExportedDetector
from vitdet_plugin.export.onnx_detector import OnnxClassifier as OnnxClassifier
from vitdet_plugin.export.onnx_file import move_model, write_program
from vitdet_plugin.export.references import Exportable, Reference, build_module, capture, compare
from vitdet_plugin.export.suppression import with_operator
from vitdet_plugin.export.translations import onnx_translations

TOLERANCE = 1e-4  # maximum difference from PyTorch, relative to the largest value of an output


def export_onnx(loaded: LoadedModel, out: str | Path, shape: tuple[int, int], opset: int = 18,
                features: bool = False, *, dynamic: Collection[str] = (), masks: str = 'boxes') -> float:
    """Export a model to an ONNX file and compare the outputs of ONNX Runtime with the model's own predictions.

    The file is written under another name and moved to ``out`` when the comparison has passed, so that an earlier file
    is kept if it fails. Weights of more than :data:`EXTERNAL_ABOVE` bytes are written to ``out`` + '.data'.

    Args:
        loaded: A classifier or a detector.
        out: Output file. Its metadata contains the class names, the input shape and the test pipeline.
        shape: Height and width of the input in pixels; of the example if the size is dynamic.
        opset: Version of the ONNX operator set.
        features: Whether to export only the backbone and neck of a detector.
        dynamic: ``'batch'`` for any number of images, ``'size'`` for images of any height and width. The comparison
            then uses several numbers and sizes.
        masks: ``'boxes'``: probabilities (B, N, m, m) over the boxes. ``'image'``: masks (B, N, H, W), uint8, 1 where
            the probability is at least ``mask_thr_binary``.

    Returns:
        The maximum difference of the outputs, relative to the largest value.

    Raises:
        UserError: If packages are missing, the model cannot be exported, the file has another opset, or the outputs
            differ by more than 1e-4.
    """
    return write_onnx(loaded, out, shape, opset, features, dynamic=dynamic, masks=masks)[0]


def write_onnx(loaded: LoadedModel, out: str | Path, shape: tuple[int, int], opset: int, features: bool, *,
               dynamic: Collection[str], masks: str) -> tuple[float, list[Reference]]:
    """Do what :func:`export_onnx` does; return also what the file was compared with, for files made from it."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401  torch's exporter needs it
    except ImportError as error:
        raise UserError(f'ONNX export requires the package {error.name}. Run pip install "vitdet-plugin[onnx]".'
                        ) from error
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with torch.no_grad(), quiet():
        try:
            exportable = build_module(loaded, shape, features=features, dynamic=dynamic, masks=masks)
            model = exportable.module
            with with_operator():
                captured = capture(exportable)
            program = torch.onnx.export(captured, dynamo=True, opset_version=opset, input_names=['image'],
                                        output_names=list(model.output_names), verbose=False,
                                        dynamic_shapes=exportable.dynamic_shapes,
                                        custom_translation_table=onnx_translations())
        except UserError:
            raise
        except Exception as error:  # the exporter can raise any exception
            what = f' and a dynamic {" and ".join(dynamic)}' if dynamic else ''
            raise UserError(f'the model cannot be exported with an input of {shape[0]} x {shape[1]} pixels{what}: '
                            f'{reason_of(error)}{". Export without --dynamic" if dynamic else ""}') from error
    with tempfile.TemporaryDirectory(dir=out.parent, prefix='.export-') as folder:
        draft = Path(folder) / out.name
        metadata = file_metadata(loaded, shape, model.preprocess, dynamic=tuple(dynamic),
                                 masks=getattr(model, 'masks', None))
        write_program(program, draft, opset, metadata)
        difference = _run_and_compare(draft, exportable)
        if not difference <= TOLERANCE:
            raise UserError(f'{out}: not written, because the outputs of ONNX Runtime and PyTorch differ by '
                            f'{difference:.1e} of the largest value; try another --opset, or --features.')
        move_model(draft, out)
    if isinstance(model, ExportedDetector) and not any(each.count for each in exportable.references):
        print(f'warning: {out}: the model detects nothing in the images of the comparison; compare the file on images '
              'of your own', file=sys.stderr)
    return difference, exportable.references


def _run_and_compare(path: Path, exportable: Exportable) -> float:
    import onnxruntime
    shapes: list[Any] = [exportable.example.shape]
    try:
        session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])

        def run(images: np.ndarray) -> list[np.ndarray]:
            shapes[0] = images.shape
            return session.run(None, {'image': images})

        return compare(run, exportable.references)
    except Exception as error:  # the errors of ONNX Runtime have no common base class
        raise UserError(f'{path.name}: not written, because ONNX Runtime cannot run it with an input of '
                        f'{" x ".join(map(str, shapes[0]))} ({reason_of(error)}); try another --opset') from error


def reason_of(error: BaseException) -> str:
    while error.__cause__ is not None:  # the first exception names the failed step, the last one the reason
        error = error.__cause__
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress the output and warnings of torch's exporter."""
    levels = {name: logging.getLogger(name).level for name in ('torch.onnx', 'onnx_ir', 'onnxscript')}
    for name in levels:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter('ignore')
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
