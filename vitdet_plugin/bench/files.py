"""Exported files: ONNX by ONNX Runtime or OpenVINO, and OpenVINO's own files."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from vitdet_plugin.engine.inference import TestPipeline
from vitdet_plugin.errors import UserError
from vitdet_plugin.export.onnx_file import read_metadata
from vitdet_plugin.prediction.compact_masks import paste_mask
from vitdet_plugin.prediction.found import Found
from vitdet_plugin.runtime.backends import rt_info
from vitdet_plugin.utils.mask_rle import Rle, encode_masks
from vitdet_plugin.utils.output import suppress_logs

_KEYS = ('classes', 'padding', 'pipeline', 'mask_threshold')


class Session(Protocol):
    """A file that a backend has loaded.

    Attributes:
        outputs: Names of its outputs.
        sides: Batch, channels, height and width of its input; None for those that can change.
        about: Its metadata; values are JSON.
    """

    outputs: list[str]
    sides: list[int | None]
    about: dict[str, str]

    def run(self, images: np.ndarray) -> Sequence[np.ndarray]:
        """Return the outputs for images (B, C, H, W)."""


class OnnxRuntimeSession:
    """A file in ONNX Runtime.

    Args:
        path: The ONNX file.
        threads: Threads of an operator.
        device: ``'cpu'`` or ``'cuda'``.
    """

    def __init__(self, path: str | Path, threads: int, device: str = 'cpu') -> None:
        import onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.add_session_config_entry('session.force_spinning_stop', '1')  # waiting threads would slow other rows
        providers = ['CUDAExecutionProvider'] * (device == 'cuda') + ['CPUExecutionProvider']
        self._session = onnxruntime.InferenceSession(str(path), options, providers=[
            each for each in providers if each in onnxruntime.get_available_providers()])
        self.outputs = [each.name for each in self._session.get_outputs()]
        self.sides = [side if isinstance(side, int) else None for side in self._session.get_inputs()[0].shape]
        self.about = dict(self._session.get_modelmeta().custom_metadata_map)

    def run(self, images: np.ndarray) -> Sequence[np.ndarray]:
        return self._session.run(None, {'image': images})


class OpenVinoSession:
    """A file in OpenVINO.

    Args:
        path: An ONNX file or the ``.xml`` of an OpenVINO model.
        threads: Threads on the CPU.
        dtype: ``'fp32'`` or ``'bf16'``, the precision of the computation.
    """

    def __init__(self, path: str | Path, threads: int, dtype: str = 'fp32') -> None:
        import openvino
        core = openvino.Core()
        model = core.read_model(str(path))
        options = {'INFERENCE_NUM_THREADS': threads, 'PERFORMANCE_HINT': 'LATENCY',
                   'INFERENCE_PRECISION_HINT': {'fp32': 'f32'}.get(dtype, dtype)}
        self._compiled = core.compile_model(model, 'CPU', options)
        self.outputs = [each.get_any_name() for each in model.outputs]
        self.sides = [side.get_length() if side.is_static else None for side in model.inputs[0].get_partial_shape()]
        self.about = read_metadata(path) if Path(path).suffix.lower() == '.onnx' else rt_info(model)

    def run(self, images: np.ndarray) -> Sequence[np.ndarray]:
        results = self._compiled([images])
        return [results[index] for index in range(len(self.outputs))]


def _with_tuples(value: Any) -> Any:
    """Return a value of JSON with lists of numbers, such as sizes, as tuples, which the transforms require."""
    if isinstance(value, dict):
        return {key: _with_tuples(each) for key, each in value.items()}
    if isinstance(value, list):
        is_numbers = bool(value) and all(isinstance(each, (int, float)) for each in value)
        return tuple(value) if is_numbers else [_with_tuples(each) for each in value]
    return value


class FileRunner:
    """An exported model with the test pipeline of its config.

    Args:
        session: The file in a backend.
        path: Its name, for messages.
        cfg: Config with the test pipeline; by default that of the file's metadata.

    Raises:
        UserError: The file was not written by "vitdet export", or has no pipeline.
    """

    def __init__(self, session: Session, path: str | Path, cfg: Config | None = None) -> None:
        self._session = session
        self.is_classifier = session.outputs == ['scores']
        if not self.is_classifier and session.outputs[:3] != ['boxes', 'scores', 'labels']:
            raise UserError(f'{path} is neither a detector nor a classifier written by "vitdet export" (without '
                            '--features); export it again')
        self._about = {key: json.loads(session.about[key]) for key in _KEYS if key in session.about}
        self.classes: list[str] = list(self._about.get('classes') or ())
        if cfg is None:
            if not self._about.get('pipeline'):
                raise UserError(f'{path} does not contain its test pipeline; give its work directory, and the file '
                                'with --file')
            cfg = Config(dict(test_dataloader=dict(dataset=dict(pipeline=_with_tuples(self._about['pipeline'])))))
            with suppress_logs(logging.ERROR):
                init_default_scope('mmpretrain' if self.is_classifier else 'mmdet')
        self._pipeline = TestPipeline(cfg)

    @property
    def batch(self) -> int | None:
        """Images that the file takes at once; None for any number."""
        return self._session.sides[0]

    def preprocess(self, source: Any) -> dict[str, Any]:
        packed = self._pipeline(source)
        image = packed['inputs'].numpy()
        image = image[::-1] if len(image) == 3 else image  # pipelines load BGR
        return dict(inputs=self._pad(np.ascontiguousarray(image, np.float32), packed['data_samples']),
                    data_samples=packed['data_samples'])

    def key(self, packed: dict[str, Any]) -> Hashable:
        return tuple(packed['inputs'].shape)

    def shape(self, packed: dict[str, Any]) -> tuple[int, int]:
        height, width = packed['inputs'].shape[-2:]
        return height, width

    def predict(self, packs: Sequence[dict[str, Any]], score_thr: float) -> tuple[list[Any], float]:
        images = np.stack([each['inputs'] for each in packs])
        start = time.perf_counter()
        outputs = dict(zip(self._session.outputs, self._session.run(images)))
        seconds = time.perf_counter() - start
        if self.is_classifier:
            return list(outputs['scores']), seconds
        if outputs['boxes'].ndim == 2:  # files of earlier versions have no batch dimension
            outputs = {name: value[None] for name, value in outputs.items()}
        return [self._found({name: value[index] for name, value in outputs.items()}, each, score_thr)
                for index, each in enumerate(packs)], seconds

    def _pad(self, image: np.ndarray, sample: Any) -> np.ndarray:
        """Fit an image (C, h, w) into a fixed input: smaller if it is too large, padded at the right and bottom."""
        height, width = (side or size for side, size in zip(self._session.sides[2:], image.shape[1:]))
        ratio = min(height / image.shape[1], width / image.shape[2], 1.0)
        if ratio < 1:
            size = max(int(image.shape[2] * ratio), 1), max(int(image.shape[1] * ratio), 1)
            planes = cv2.resize(image.transpose(1, 2, 0), size, interpolation=cv2.INTER_AREA)
            image = planes.reshape(*size[::-1], -1).transpose(2, 0, 1)
            scale = np.array(sample.metainfo.get('scale_factor') or (1.0, 1.0), float)
            sample.set_metainfo(dict(scale_factor=tuple(scale * ratio)))
        if image.shape[1:] == (height, width):
            return image
        padding = np.array(self._about.get('padding') or [0.0] * len(image), np.float32)
        canvas = np.broadcast_to(padding[:, None, None], (len(image), height, width)).copy()
        canvas[:, :image.shape[1], :image.shape[2]] = image
        return canvas

    def _found(self, outputs: dict[str, np.ndarray], packed: dict[str, Any], score_thr: float) -> Found:
        kept = (outputs['scores'] > 0) & (outputs['scores'] >= score_thr)
        facts = packed['data_samples'].metainfo
        rows, columns = facts['ori_shape'][:2]
        scale = np.array(tuple(facts.get('scale_factor') or (1.0, 1.0)) * 2, np.float32)
        left, top = facts.get('letterbox_offset') or (0, 0)
        boxes = (outputs['boxes'][kept] - np.array([left, top] * 2, np.float32)) / scale
        boxes = boxes.clip(0, np.array([columns, rows] * 2)).astype(np.float32)
        masks = outputs.get('masks')
        rles = None if masks is None else [self._rle(mask, box, packed, scale, (rows, columns))
                                           for mask, box in zip(masks[kept], boxes)]
        return Found(boxes, outputs['scores'][kept], outputs['labels'][kept].astype(np.int64), rles
                     ).best_first(score_thr)

    def _rle(self, mask: np.ndarray, box: np.ndarray, packed: dict[str, Any], scale: np.ndarray,
             shape: tuple[int, int]) -> Rle:
        if mask.shape != packed['inputs'].shape[1:]:
            return paste_mask(torch.from_numpy(mask), torch.from_numpy(box), shape,
                              self._about.get('mask_threshold', 0.5))
        height, width = round(shape[0] * scale[1]), round(shape[1] * scale[0])
        pasted = cv2.resize(mask[:height, :width].astype(np.uint8), shape[::-1], interpolation=cv2.INTER_NEAREST)
        return encode_masks(pasted[None] > 0)[0]
