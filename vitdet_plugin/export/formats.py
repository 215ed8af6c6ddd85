"""Export in every format: write a draft, compare it with the model's predictions, move it to its name."""

from __future__ import annotations

import contextlib
import errno
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from vitdet_plugin.engine.load_model import LoadedModel
from vitdet_plugin.errors import UserError
from vitdet_plugin.export.drafts import NAMES, Exported, Run, convert, move, open_draft
from vitdet_plugin.export.metadata import file_metadata
from vitdet_plugin.export.modules import describe_channels, input_channels
from vitdet_plugin.export.onnx import TOLERANCE, quiet, reason_of, write_onnx
from vitdet_plugin.export.onnx_file import read_opset
from vitdet_plugin.export.references import Reference, build_module, capture, compare
from vitdet_plugin.export.request import ExportRequest
from vitdet_plugin.export.rows import all_rows
from vitdet_plugin.utils.output_files import ADVICE
from vitdet_plugin.utils.track import working

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
HALF_TOLERANCE = 2e-2  # maximum difference of float16 files


def export_model(loaded: LoadedModel, request: ExportRequest) -> Exported:
    """Write a file, after the options were checked by :func:`.request.check_combination`.

    Args:
        loaded: A classifier or a detector.
        request: What to write.

    Raises:
        UserError: The model cannot be exported in this format, the file differs from the model, or the disk is full. An
            earlier file is kept.
    """
    request.out.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=request.out.parent, prefix='.export-') as folder:
            if request.format in ('torch-export', 'torchscript'):
                return _export_torch(loaded, request, Path(folder))
            return _export_onnx_family(loaded, request, Path(folder))
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise UserError(f'{request.out} could not be saved: {error.strerror}; an existing file was not changed. '
                        f'{ADVICE}') from error


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
    return f'{line}, {NAMES[request.format]} within {exported.difference:.1e} of PyTorch'


def _export_torch(loaded: LoadedModel, request: ExportRequest, folder: Path) -> Exported:
    from vitdet_plugin.export import torch_program
    draft, shape, is_script = folder / request.out.name, request.shape, request.format == 'torchscript'
    with torch.no_grad(), quiet():
        try:
            made = build_module(loaded, shape, features=request.features, dynamic=request.dynamic, masks=request.masks)
            about = file_metadata(loaded, shape, made.module.preprocess, dynamic=request.dynamic,
                                  masks=getattr(made.module, 'masks', None))
            with all_rows() if is_script else contextlib.nullcontext():
                program = capture(made)
            torch_program.check_operators(program)
            if is_script:
                torch_program.write_torchscript(program, made.example, draft, about)
                run = torch_program.open_torchscript(draft)
            else:
                torch_program.write_program(program, draft, about)
                run = torch_program.open_program(draft)
        except (UserError, OSError):
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
        from vitdet_plugin.export.int8 import export_int8
        return export_int8(loaded, request, plain, folder)
    with working('comparing with PyTorch'):
        draft = folder / request.out.name
        convert(plain, draft, request)
        difference = _checked(request, open_draft(draft), references, HALF_TOLERANCE if request.half else TOLERANCE)
    move(draft, request)
    return Exported(difference)


def _checked(request: ExportRequest, run: Run, references: Sequence[Reference], tolerance: float) -> float:
    name = NAMES[request.format]
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
