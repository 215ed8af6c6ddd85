"""Export of classifiers and detectors to ONNX, verified with ONNX Runtime."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import sys
import tempfile
import warnings
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from vitdet_plugin.config.dataset_config import leaf_datasets
from vitdet_plugin.engine.load_model import LoadedModel
from vitdet_plugin.errors import UserError
from vitdet_plugin.export.modules import ExportedDetector
from vitdet_plugin.export.onnx_file import move_model, write_program
from vitdet_plugin.export.onnx_session import describe_channels, open_session
from vitdet_plugin.export.references import Exportable, build_module, capture, compare
from vitdet_plugin.export.suppression import onnx_translations, with_operator

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
        write_program(program, draft, opset, module_metadata(loaded, shape, model, dynamic, masks))
        difference = _run_and_compare(draft, exportable)
        if not difference <= TOLERANCE:
            raise UserError(f'{out}: not written, because the outputs of ONNX Runtime and PyTorch differ by '
                            f'{difference:.1e} of the largest value; try another --opset, or --features.')
        move_model(draft, out)
    if isinstance(model, ExportedDetector) and not any(each.count for each in exportable.references):
        print(f'warning: {out}: the model detects nothing in the images of the comparison; compare the file on images '
              'of your own', file=sys.stderr)
    return difference


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

    def __call__(self, source: str | Path | np.ndarray) -> np.ndarray:
        """Classify an image.

        Args:
            source: Image file, or an array of shape ``(H, W, 3)``, uint8, in BGR order.

        Returns:
            Probabilities of shape ``(num_classes,)``.

        Raises:
            UserError: If the output of the test pipeline does not have the exported input shape.
        """
        if self._pipeline is None:
            from mmengine.dataset import Compose
            from mmengine.registry import init_default_scope
            init_default_scope('mmpretrain')
            self._pipeline = Compose(self._steps[:1]), Compose(self._steps[1:])
        load, rest = self._pipeline
        if isinstance(source, np.ndarray):
            size = source.shape[:2]
            loaded = dict(img=source, img_path=None, img_shape=size, ori_shape=size)
        else:
            loaded = load(dict(img_path=str(source)))
        image = rest(loaded)['inputs'].numpy()
        image = image[::-1] if len(image) == 3 else image  # loaded as BGR
        if image.shape[1:] != self.shape:
            name = 'image array' if isinstance(source, np.ndarray) else source
            raise UserError(f'{name}: the test pipeline returns {image.shape[1]} x {image.shape[2]} pixels, but the '
                            f'exported model requires {self.shape[0]} x {self.shape[1]}. Export with this --shape.')
        return self.session.run(None, {'image': np.ascontiguousarray(image[None], np.float32)})[0][0]


def module_metadata(loaded: LoadedModel, shape: tuple[int, int], model: nn.Module, dynamic: Collection[str],
              masks: str) -> dict[str, str]:
    preprocess = model.preprocess
    about: dict[str, Any] = dict(format=2, classes=loaded.classes or [], shape=list(shape), dynamic=list(dynamic),
                                 divisor=preprocess.divisor,
                                 input=f'{describe_channels(preprocess.channels)}, 0 to 255')
    mean = preprocess.mean.flatten().expand(preprocess.channels)
    about['padding'] = (mean.flip(0) if preprocess.is_reversed else mean).tolist()  # zero after normalization
    threshold = (getattr(getattr(loaded.model, 'roi_head', None), 'test_cfg', None) or {}).get('mask_thr_binary')
    if threshold is not None:
        about['mask_threshold'] = threshold
    if 'masks' in model.output_names:
        about['masks'] = masks
    loader = loaded.cfg.get('test_dataloader')
    for _, dataset in leaf_datasets(loader.dataset, '') if loader else ():
        about['pipeline'] = [dict(step) for step in dataset.get('pipeline') or ()]
    return {key: json.dumps(value) for key, value in about.items()}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
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
