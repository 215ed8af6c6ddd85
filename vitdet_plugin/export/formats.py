"""Export in every format: write a draft, compare it with the model's predictions, move it to its name."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from vitdet_plugin.engine.load_model import LoadedModel
from vitdet_plugin.errors import UserError
from vitdet_plugin.export.accuracy import InputShape, measure_accuracy, measure_times, test_images
from vitdet_plugin.export.metadata import file_metadata
from vitdet_plugin.export.modules import describe_channels, input_channels
from vitdet_plugin.export.onnx import TOLERANCE, quiet, reason_of, write_onnx
from vitdet_plugin.export.onnx_file import move_model, read_metadata, read_opset
from vitdet_plugin.export.references import Reference, build_module, capture, compare
from vitdet_plugin.export.request import ExportRequest
from vitdet_plugin.export.rows import all_rows
from vitdet_plugin.utils.track import working

Run = Callable[[np.ndarray], Sequence[np.ndarray]]
HALF_TOLERANCE = 2e-2  # maximum difference of float16 files
_NAMES = {'onnx': 'ONNX Runtime', 'openvino': 'OpenVINO', 'torch-export': 'the loaded program',
          'torchscript': 'the loaded TorchScript'}


@dataclass
class Exported:
    """What was written.

    Attributes:
        difference: Maximum difference from the model's own predictions; None for int8, see ``notes``.
        notes: More facts for the user, a line each.
    """

    difference: float | None
    notes: list[str] = field(default_factory=list)


def export_model(loaded: LoadedModel, request: ExportRequest) -> Exported:
    """Write a file, after the options were checked by :func:`.request.check_combination`.

    Args:
        loaded: A classifier or a detector.
        request: What to write.

    Raises:
        UserError: The model cannot be exported in this format, or the file differs from the model. An earlier file is
            kept.
    """
    request.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=request.out.parent, prefix='.export-') as folder:
        if request.format in ('torch-export', 'torchscript'):
            return _export_torch(loaded, request, Path(folder))
        return _export_onnx_family(loaded, request, Path(folder))


def describe(loaded: LoadedModel, request: ExportRequest, exported: Exported) -> str:
    """Return the line that ``vitdet export`` prints for a written file."""
    part = 'classifier' if loaded.is_classifier else 'backbone and neck' if request.features else 'detector'
    if request.format == 'onnx':
        part += f', opset {read_opset(request.out)}'
    part += ', float16' * request.half + ', int8' * (request.int8 is not None)
    channels, (height, width) = input_channels(loaded.model), request.shape
    sides = ('B' if 'batch' in request.dynamic else 1, channels, *(('H', 'W') if 'size' in request.dynamic else
                                                                   (height, width)))
    line = f'{request.out}: {part}, input {" x ".join(map(str, sides))} ({describe_channels(channels)}, 0 to 255)'
    if exported.difference is None:
        return line
    return f'{line}, {_NAMES[request.format]} within {exported.difference:.1e} of PyTorch'


def open_onnx(path: Path) -> Run:
    """Return a function that runs an ONNX file on the CPU."""
    import onnxruntime
    try:
        session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    except Exception as error:  # the errors of ONNX Runtime have no common base class
        raise UserError(f'ONNX Runtime cannot load the file ({reason_of(error)})') from error
    return lambda images: session.run(None, {'image': images})


def _export_torch(loaded: LoadedModel, request: ExportRequest, folder: Path) -> Exported:
    from vitdet_plugin.export import torch_program
    draft, shape, is_script = folder / request.out.name, request.shape, request.format == 'torchscript'
    with torch.no_grad(), quiet():
        try:
            made = build_module(loaded, shape, features=request.features, dynamic=request.dynamic, masks=request.masks)
            about = file_metadata(loaded, shape, made.module.preprocess, dynamic=request.dynamic,
                                  masks=request.masks if 'masks' in made.module.output_names else None)
            with all_rows() if is_script else contextlib.nullcontext():
                program = capture(made)
            torch_program.check_operators(program)
            if is_script:
                torch_program.write_torchscript(program, made.example, draft, about)
                run = torch_program.open_torchscript(draft)
            else:
                torch_program.write_program(program, draft, about)
                run = torch_program.open_program(draft)
        except UserError:
            raise
        except Exception as error:  # the exporters can raise any exception
            what = f' and a dynamic {" and ".join(request.dynamic)}' if request.dynamic else ''
            raise UserError(f'--format {request.format}: the model cannot be exported with an input of {shape[0]} x '
                            f'{shape[1]} pixels{what}: {reason_of(error)}'
                            + ('; leave --dynamic out, or use --format onnx' if what else '')) from error
    difference = _checked(request, run, made.references, TOLERANCE)
    shutil.move(draft, request.out)
    return Exported(difference)


def _export_onnx_family(loaded: LoadedModel, request: ExportRequest, folder: Path) -> Exported:
    is_plain = request.format == 'onnx' and not request.half and request.int8 is None
    plain = request.out if is_plain else folder / 'float32.onnx'
    with working('exporting and comparing with PyTorch'):
        difference, references = write_onnx(loaded, plain, request.shape, request.opset, request.features,
                                            dynamic=request.dynamic, masks=request.masks)
    if is_plain:
        return Exported(difference)
    if request.int8 is not None:
        return _export_int8(loaded, request, plain, folder)
    with working('comparing with PyTorch'):
        draft = folder / request.out.name
        run = _convert(plain, draft, request)
        difference = _checked(request, run, references, HALF_TOLERANCE if request.half else TOLERANCE)
    _move(draft, request)
    return Exported(difference)


def _export_int8(loaded: LoadedModel, request: ExportRequest, plain: Path, folder: Path) -> Exported:
    from vitdet_plugin.export.calibration import calibration_images
    from vitdet_plugin.export.quantize import quantize
    fit, draft, quantized = InputShape(read_metadata(plain)), folder / request.out.name, folder / 'int8.onnx'
    images = calibration_images(request.int8 or '', loaded, fit)
    with working('calibrating'):
        layers = quantize(plain, quantized, images, dict(precision='"int8"'))
    if not layers:
        raise UserError('--int8: the model has no layers that can be computed in 8 bits; leave --int8 out')
    if request.format == 'openvino':
        from vitdet_plugin.export.openvino import open_openvino, write_openvino
        write_openvino(plain, folder / 'float32.xml', {})
        before, after = open_openvino(folder / 'float32.xml'), _convert(quantized, draft, request)
    else:
        shutil.move(quantized, draft)
        if (data := quantized.with_name(f'{quantized.name}.data')).is_file():
            raise UserError(f'--int8: weights above 1.5 GiB are not supported ({data.name})')
        before, after = open_onnx(plain), open_onnx(draft)
    if not all(np.isfinite(part).all() for part in after(images[0])):
        raise UserError(f'{request.out}: not written, because the int8 file gives values that are not finite')
    notes = [f'int8: {layers} layers in 8 bits, calibrated with {len(images)} images', *_accuracy(loaded, before, after,
                                                                                               fit, request)]
    slow, fast = measure_times((before, after), images[0])
    notes.append(f'time of an image: float32 {1000 * slow:.0f} ms, int8 {1000 * fast:.0f} ms ({slow / fast:.2f}x; '
                 f'{_NAMES[request.format]} on this CPU, median of 7, taking turns)')
    _move(draft, request)
    return Exported(None, notes)


def _accuracy(loaded: LoadedModel, before: Run, after: Run, fit: InputShape, request: ExportRequest) -> list[str]:
    count = test_images(loaded)
    if not count:
        return ["accuracy: not measured, because the config's test set does not exist on this machine"]
    old, new = (measure_accuracy(loaded, run, fit) for run in (before, after))
    lost = {name: old[name] - new.get(name, 0.0) for name in old}
    worst = max(lost, key=lost.__getitem__)
    if lost[worst] > 1:
        print(f'warning: {request.out}: int8 loses {lost[worst]:.1f} {worst}; give calibration images like those of '
              'the task, or use --half', file=sys.stderr)
    return [f'accuracy on the {count} images of the test split, float32 -> int8: '
            + ', '.join(f'{name} {old[name]:.1f} -> {new.get(name, 0.0):.1f}' for name in old)]


def _convert(source: Path, draft: Path, request: ExportRequest) -> Run:
    about = read_metadata(source) | (dict(precision='"half"') if request.half else {})
    if request.format == 'openvino':
        from vitdet_plugin.export.openvino import open_openvino, write_openvino
        write_openvino(source, draft, about, request.half)
        return open_openvino(draft)
    from vitdet_plugin.export.half import convert_to_half
    convert_to_half(source, draft, about)
    return open_onnx(draft)


def _checked(request: ExportRequest, run: Run, references: Sequence[Reference], tolerance: float) -> float:
    name = _NAMES[request.format]
    try:
        difference = compare(run, references)
    except Exception as error:  # the errors of the runtimes have no common base class
        raise UserError(f'{request.out}: not written, because {name} cannot run it ({reason_of(error)})'
                        + ('; leave --dynamic out' if request.dynamic else '')) from error
    if not difference <= tolerance:
        other = '--half' if request.half else '--dynamic' if request.dynamic else None
        advice = f'leave {other} out' if other else 'use --format onnx'
        raise UserError(f'{request.out}: not written, because the outputs of {name} and PyTorch differ by '
                        f'{difference:.1e} of the largest value, more than {tolerance:.0e}; {advice}, or give '
                        '--features')
    return difference


def _move(draft: Path, request: ExportRequest) -> None:
    if request.format == 'openvino':
        from vitdet_plugin.export.openvino import move_openvino
        move_openvino(draft, request.out)
    else:
        move_model(draft, request.out)
