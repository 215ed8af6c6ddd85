"""Int8 files with what they cost and gain: accuracy on the test set and time, next to those of the float32 file."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vitdet_plugin.engine.load_model import LoadedModel
from vitdet_plugin.errors import UserError
from vitdet_plugin.evaluation.test_images import TestImages
from vitdet_plugin.export.calibration import calibration_images
from vitdet_plugin.export.drafts import NAMES, Exported, convert, move
from vitdet_plugin.export.openvino import write_openvino
from vitdet_plugin.export.quantize import quantize
from vitdet_plugin.export.request import ExportRequest
from vitdet_plugin.runtime import Model, load
from vitdet_plugin.utils.runtime_errors import model_errors
from vitdet_plugin.utils.track import working

_ROUNDS = 7


def export_int8(loaded: LoadedModel, request: ExportRequest, plain: Path, folder: Path) -> Exported:
    """Write the int8 file of a float32 ONNX file.

    Args:
        loaded: The model.
        request: What to write.
        plain: Its float32 ONNX file.
        folder: Folder for drafts.

    Raises:
        UserError: There are no images or no layers for it, or the file gives values that are not finite.
    """
    draft, quantized = folder / request.out.name, folder / 'int8.onnx'
    with model_errors():
        before = _open(plain)
        images = calibration_images(request.int8 or '', before)
    with working('calibrating'):
        layers = quantize(plain, quantized, images, dict(precision='"int8"'))
    if not layers:
        raise UserError('--int8: the model has no layers that can be computed in 8 bits; leave --int8 out')
    if request.format == 'openvino':
        xml = folder / 'float32.xml'
        write_openvino(plain, xml, before.session.metadata)
        convert(quantized, draft, request)
        before = _open(xml)
    else:
        shutil.move(quantized, draft)
        if (data := quantized.with_name(f'{quantized.name}.data')).is_file():
            raise UserError(f'--int8: weights above 1.5 GiB are not supported ({data.name})')
    after = _open(draft)
    if not all(np.isfinite(part).all() for part in after.session.run(images[0]).values()):
        raise UserError(f'{request.out}: not written, because the int8 file gives values that are not finite')
    notes = [f'int8: {layers} layers in 8 bits, calibrated with {len(images)} images',
             _accuracy(loaded, before, after, request)]
    slow, fast = measure_times([model.session.run for model in (before, after)], images[0])
    notes.append(f'time of an image: float32 {1000 * slow:.0f} ms, int8 {1000 * fast:.0f} ms ({slow / fast:.2f}x; '
                 f'{NAMES[request.format]} on this CPU, median of {_ROUNDS}, taking turns)')
    move(draft, request)
    return Exported(None, notes)


def measure_times(runs: Sequence[Callable[[np.ndarray], Any]], image: np.ndarray, rounds: int = _ROUNDS) -> list[float]:
    """Return the median time in seconds of each of ``runs`` for an image; the runs take turns."""
    times = np.zeros((rounds + 1, len(runs)))
    for row in times:
        for index, run in enumerate(runs):
            start = time.perf_counter()
            run(image)
            row[index] = time.perf_counter() - start
    return np.median(times[1:], 0).tolist()


def _open(path: Path) -> Model:
    with model_errors():
        return load(path, providers=['CPUExecutionProvider'] if path.suffix == '.onnx' else None)


def _accuracy(loaded: LoadedModel, before: Model, after: Model, request: ExportRequest) -> str:
    try:
        data = TestImages(loaded.cfg, list(loaded.classes or ()), loaded.is_classifier, with_masks=True)
    except (UserError, OSError) as error:
        return f'accuracy: not measured: {error}'

    def evaluate(model: Model, name: str) -> dict[str, float]:
        return {metric: 100 * value for metric, value in data.evaluate(lambda file: model.predict_prepared(
            [model.prepare(model.read(file))], 0.0)[0], name).items()}

    with model_errors():
        old, new = evaluate(before, 'float32'), evaluate(after, 'int8')
    lost = {name: old[name] - new.get(name, 0.0) for name in old}
    worst = max(lost, key=lost.__getitem__)
    if lost[worst] > 1:
        print(f'warning: {request.out}: int8 loses {lost[worst]:.1f} {worst}; give calibration images like those of '
              'the task, or use --half', file=sys.stderr)
    return f'accuracy on the {len(data)} images of the test split, float32 -> int8: ' + ', '.join(
        f'{name} {old[name]:.1f} -> {new.get(name, 0.0):.1f}' for name in old)
