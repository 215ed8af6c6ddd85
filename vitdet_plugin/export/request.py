"""What ``vitdet export`` is asked for, and which combinations of options exist; imports nothing slow."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vitdet_plugin.errors import UserError

DEFAULT_OPSET = 18
_LEAST_OPSET = 7  # of ONNX Runtime
LARGEST_SIDE = 2**16  # in pixels
DYNAMIC = ('batch', 'size')
MASKS = ('boxes', 'image')

#: format -> suffix of its file
SUFFIXES = {'onnx': '.onnx', 'openvino': '.xml', 'torch-export': '.pt2', 'torchscript': '.torchscript'}
_TORCH_FORMATS = ('torch-export', 'torchscript')

#: format -> packages that it imports, all of the extra of this name
_PACKAGES = {'onnx': ('onnx', 'onnxscript', 'onnxruntime'),
             'openvino': ('openvino', 'onnx', 'onnxscript', 'onnxruntime')}


@dataclass(frozen=True)
class ExportRequest:
    """Options of an export.

    Attributes:
        format: A key of :data:`SUFFIXES`.
        out: File to write.
        shape: Height and width in pixels of the input; of the example if the size is dynamic.
        dynamic: Which sizes of the input may vary: a subset of :data:`DYNAMIC`.
        opset: Version of the ONNX operator set.
        half: Whether weights (and, in ONNX, activations) are float16.
        int8: Folder, config or COCO file of calibration images; None for a float file.
        masks: 'boxes' for probabilities over each box, 'image' for masks at the size of the input.
        features: Whether to export only the backbone and neck of a detector.
    """

    format: str = 'onnx'
    out: Path = Path('model.onnx')
    shape: tuple[int, int] = (224, 224)
    dynamic: tuple[str, ...] = ()
    opset: int = DEFAULT_OPSET
    half: bool = False
    int8: str | None = None
    masks: str = 'boxes'
    features: bool = False


def read_dynamic(text: str | None) -> tuple[str, ...]:
    """Return the names in a list separated by commas.

    Raises:
        UserError: A name that is not in :data:`DYNAMIC`.
    """
    names = [name.strip() for name in (text or '').split(',') if name.strip()]
    for name in names:
        if name not in DYNAMIC:
            raise UserError(f'--dynamic {text}: unknown name {name!r}; give batch, size, or batch,size')
    if text is not None and not names:
        raise UserError(f'--dynamic {text!r}: give batch, size, or batch,size')
    return tuple(name for name in DYNAMIC if name in names)


def check_combination(format: str, opset: int | None, half: bool, int8: str | None, masks: str | None,
                      features: bool, dynamic: Sequence[str] = ()) -> None:
    """Check that options fit the format and each other.

    Args:
        format: A key of :data:`SUFFIXES`.
        opset: The value that was given; None if the option was left out, as for ``masks``.
        half: See :class:`ExportRequest`, as for the others.
        int8: Calibration images.
        masks: Form of the masks.
        features: Backbone and neck alone.
        dynamic: What the file leaves open.

    Raises:
        UserError: Names the first combination that does not exist.
    """
    if opset is not None and format in _TORCH_FORMATS:
        raise UserError(f'--opset {opset}: a file of --format {format} has no ONNX operator set; leave --opset out')
    if dynamic and format == 'torchscript':
        raise UserError(f'--dynamic {",".join(dynamic)} is not available with --format torchscript, whose traces have '
                        'fixed sizes; use --format torch-export')
    if half and int8 is not None:
        raise UserError('--half and --int8: give one of them; an int8 file keeps the rest of the model in float32')
    for option in ['--half'] * half + ['--int8'] * (int8 is not None):
        if format in _TORCH_FORMATS:
            raise UserError(f'{option} is not available with --format {format}; use --format onnx or openvino')
    if int8 is not None and features:
        raise UserError('--int8 with --features: feature maps have no accuracy to measure; leave one of them out')
    if masks is not None and features:
        raise UserError(f'--masks {masks} with --features: feature maps have no masks; leave one of them out')


def check_packages(format: str) -> None:
    """Check that the packages of a format are installed, without importing them.

    Raises:
        UserError: Names the missing package and the extra that installs it.
    """
    for name in _PACKAGES.get(format, ()):
        if importlib.util.find_spec(name) is None:
            raise UserError(f'--format {format} requires the package {name}. Run pip install '
                            f'"vitdet-plugin[{format}]".')


def check_opset(opset: int | None) -> None:
    """Check that the installed packages can write and run files with an ONNX operator set; models may need more.

    Args:
        opset: The value that was given; None if the option was left out.

    Raises:
        UserError: They cannot.
    """
    if opset is None:
        return
    import onnx
    newest = next(version for version in range(onnx.defs.onnx_opset_version(), 0, -1) if _runs(version))
    if not _LEAST_OPSET <= opset <= newest:
        raise UserError(f'--opset {opset}: give a number from {_LEAST_OPSET} to {newest}, the newest that the '
                        'installed onnx and onnxruntime support')


def _runs(opset: int) -> bool:
    """Whether ONNX Runtime runs an operator of this set."""
    import onnx
    import onnxruntime
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in 'xy']
    graph = onnx.helper.make_graph([onnx.helper.make_node('Identity', ['x'], ['y'])], 'trial', values[:1], values[1:])
    model = onnx.helper.make_model_gen_version(graph, opset_imports=[onnx.helper.make_opsetid('', opset)])
    try:
        onnxruntime.InferenceSession(model.SerializeToString(), providers=['CPUExecutionProvider'])
    except Exception:  # the errors of ONNX Runtime have no common base class
        return False
    return True


def output_file(out: str | None, format: str, folder: Path | None, half: bool, int8: str | None) -> Path:
    """Return the file to write: ``--out``, or a file of the run folder that is named after the format.

    Args:
        out: The value of ``--out``, if given.
        format: A key of :data:`SUFFIXES`.
        folder: The run folder; None where config and checkpoint were given.
        half: Whether it is a float16 file.
        int8: Calibration images of an int8 file.

    Raises:
        UserError: No file was given and there is no run folder, or its suffix belongs to another format.
    """
    suffix = SUFFIXES[format]
    if out is None:
        if folder is None:
            raise UserError(f'--out is missing; give the file to write, for example --out model{suffix} (only a run '
                            'folder has a default)')
        return folder / f'model{"_half" * half}{"_int8" * (int8 is not None)}{suffix}'
    found = os.path.splitext(out)[1].lower()
    if not os.path.isdir(out) and (found != suffix if format in ('openvino', 'torch-export') else
                                   found in SUFFIXES.values() and found != suffix):
        raise UserError(f'--out {out}: a file of --format {format} must end with {suffix}')
    return Path(out)


def check_shape(shape: Sequence[int] | None) -> tuple[int, int] | None:
    """Return height and width as a tuple.

    Raises:
        UserError: One of them is not positive, or too large.
    """
    if shape is None:
        return None
    height, width = shape
    if min(shape) < 1 or max(shape) > LARGEST_SIDE:
        raise UserError(f'--shape {height} {width}: give a height and a width from 1 to {LARGEST_SIDE} '
                        'pixels')
    return height, width
