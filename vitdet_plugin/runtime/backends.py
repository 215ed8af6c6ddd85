"""What runs the file of a model: ONNX Runtime for ``.onnx``, OpenVINO for ``.xml``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .errors import ModelError

ONNX, OPENVINO = '.onnx', '.xml'
SUFFIXES = (ONNX, OPENVINO)
LIBRARIES = ('onnxruntime', 'openvino')
_PROVIDERS = ('CUDAExecutionProvider', 'ROCMExecutionProvider', 'DmlExecutionProvider', 'CPUExecutionProvider')
_RT_INFO = ('vitdet_plugin', 'framework')  # sections of OpenVINO's file that may hold the metadata
_HEAD = 4096  # bytes that are examined
_TEXT = frozenset(range(32, 127)) | frozenset(b'\t\n\r')
_KEYS = ('classes', 'shape', 'dynamic', 'divisor', 'input', 'padding', 'mask_threshold', 'masks', 'pipeline',
         'preprocess', 'precision', 'task', 'format')


class Session(Protocol):
    """A loaded file.

    Attributes:
        metadata: What ``vitdet export`` wrote about the model; values are JSON.
        shape: Sides of the input (B, C, H, W); None where any size is possible.
        outputs: Names of the outputs.
        device: Where the model runs, for people.
    """

    metadata: dict[str, str]
    shape: tuple[int | None, ...]
    outputs: tuple[str, ...]
    device: str

    def run(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        """Return the outputs for images (B, C, H, W) float32."""


def open_session(path: Path, threads: int | None = None, providers: Sequence[str] | None = None, half: bool = False,
                 library: str | None = None) -> Session:
    """Load a file.

    Args:
        path: ``.onnx`` or ``.xml``.
        threads: Threads of the processor that an operator uses; None leaves it to the library.
        providers: Execution providers of ONNX Runtime, or one device of OpenVINO such as ``'GPU'``.
        half: Whether OpenVINO may compute in 16 bits where the processor has instructions for them.
        library: One of :data:`LIBRARIES`; None for the one that the format belongs to. OpenVINO takes ONNX files, too.

    Raises:
        ModelError: It does not exist, cannot be loaded, or its library is not installed.
    """
    if not path.is_file():
        what = 'is a folder, not a file' if path.is_dir() else 'does not exist'
        raise ModelError(f'{path} {what}. Write it with "vitdet export".')
    if threads is not None and threads < 1:
        raise ModelError(f'threads={threads}: give a positive number')
    is_xml = path.suffix.lower() == OPENVINO
    if library not in (None, *LIBRARIES) or is_xml and library == LIBRARIES[0]:
        raise ModelError(f'library={library!r} cannot run {path}; choose {LIBRARIES[1] if is_xml else LIBRARIES}')
    if library == LIBRARIES[1] or library is None and is_xml:
        return _OpenVino(path, threads, providers, half)
    if half:
        raise ModelError(f'{path}: an ONNX file has its own precision; export it with --half, or leave out half')
    return _OnnxRuntime(path, threads, providers)


def _describe_wrong_file(path: Path) -> str:
    """Return what a file that is no model is by its first bytes, and what to do; an empty text if it may be one."""
    with open(path, 'rb') as file:
        start = file.read(_HEAD)
    text = start.lstrip(b'\xef\xbb\xbf \t\r\n').lower()
    if not start:
        return 'is empty (0 bytes); export the model again'
    if start.startswith(b'version https://git-lfs'):
        return 'is a pointer of Git LFS, not the file itself; run "git lfs pull" in its repository'
    if text.startswith((b'<!doctype html', b'<html')):
        return 'is a web page (an error page of the server?), not a model; download it again'
    if path.suffix.lower() == ONNX and all(byte in _TEXT for byte in start):
        return 'is a text file, not a model; export the model again'
    return ''


class _OnnxRuntime:
    def __init__(self, path: Path, threads: int | None, providers: Sequence[str] | None) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise ModelError(f'{path} requires the package {error.name}. Run pip install onnxruntime') from error
        possible = onnxruntime.get_available_providers()
        missing = [name for name in providers or () if name not in possible]
        if missing:
            raise ModelError(f'provider {missing[0]} is not available; choose from {", ".join(possible)}')
        options = onnxruntime.SessionOptions()
        # threads that wait for the next batch would take the processor from the decoding of images
        options.add_session_config_entry('session.force_spinning_stop', '1')
        if threads is not None:
            options.intra_op_num_threads = threads
        chosen = list(providers or [name for name in _PROVIDERS if name in possible])
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=chosen)
        except Exception as error:  # the errors of ONNX Runtime have no common base class
            if fault := _describe_wrong_file(path):
                raise ModelError(f'{path} cannot be loaded: it {fault}') from error
            is_weights = '.data' in str(error) or 'external data' in str(error).lower()
            advice = f'keep {path.name}.data in the same folder' if is_weights else \
                'the file is damaged, or written for another version of ONNX Runtime: export the model again'
            raise ModelError(f'{path} cannot be loaded ({_reason(error)}); {advice}') from error
        self.metadata = dict(self._session.get_modelmeta().custom_metadata_map)
        entry = self._session.get_inputs()[0]
        self._input = entry.name
        self.shape = tuple(side if isinstance(side, int) and side > 0 else None for side in entry.shape)
        self.outputs = tuple(each.name for each in self._session.get_outputs())
        self.device = self._session.get_providers()[0].removesuffix('ExecutionProvider')

    def run(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        try:
            return dict(zip(self.outputs, self._session.run(None, {self._input: batch})))
        except Exception as error:
            raise ModelError(f'ONNX Runtime cannot run the model for an input of {_sides(batch)} ({_line(error)}); '
                             'use a smaller batch or image') from error


class _OpenVino:
    def __init__(self, path: Path, threads: int | None, providers: Sequence[str] | None, half: bool) -> None:
        try:
            import openvino
        except ImportError as error:
            raise ModelError(f'{path} requires the package {error.name}. Run pip install openvino') from error
        core, self.device = openvino.Core(), providers[0] if providers else 'CPU'
        settings: dict[str, Any] = {} if half else {'INFERENCE_PRECISION_HINT': 'f32'}
        if threads is not None and self.device == 'CPU':
            settings['INFERENCE_NUM_THREADS'] = threads
        try:
            model = core.read_model(str(path))
            self._model = core.compile_model(model, self.device, settings)
        except Exception as error:
            if fault := _describe_wrong_file(path):
                raise ModelError(f'{path} cannot be loaded: it {fault}') from error
            advice = f'. Keep {path.with_suffix(".bin").name} in the same folder.' if path.suffix != ONNX else ''
            raise ModelError(f'{path} cannot be loaded ({last_line(error)}){advice}') from error
        self.metadata = rt_info(model)
        sides = self._model.inputs[0].partial_shape
        self.shape = tuple(side.get_length() if side.is_static else None for side in sides)
        self.outputs = tuple(_name(each, index) for index, each in enumerate(self._model.outputs))

    def run(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        try:
            found = self._model([batch])
        except Exception as error:
            raise ModelError(f'OpenVINO cannot run the model for an input of {_sides(batch)} ({_line(error)}); use a '
                             'smaller batch or image') from error
        return {name: np.array(found[index]) for index, name in enumerate(self.outputs)}


def _name(output: Any, index: int) -> str:
    names = sorted(output.get_names(), key=len)
    return names[0] if names else f'output_{index}'


def rt_info(model: Any) -> dict[str, str]:
    """Return the metadata of a model of OpenVINO; values are JSON."""
    found: dict[str, str] = {}
    for section in _RT_INFO:
        for key in _KEYS:
            if key not in found and model.has_rt_info([section, key]):
                value = model.get_rt_info([section, key])
                found[key] = value if isinstance(value, str) else value.astype(str)
    return found


def _sides(batch: np.ndarray) -> str:
    return ' x '.join(map(str, batch.shape))


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _reason(error: Exception) -> str:
    """Return the first line of a message of ONNX Runtime without its codes and positions in its source."""
    return re.sub(r'^\[ONNXRuntimeError\] : \d+ : \w+ : |/onnxruntime_src\S+ .*\) (?=\w)', '', _line(error))


def last_line(error: Exception) -> str:
    """Return the last line of a message: OpenVINO prints the position in its own source before the reason."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()[:200]
