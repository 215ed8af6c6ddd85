"""Models that predict in parts that can be timed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from vitdet_plugin.bench.rows import Seconds
from vitdet_plugin.prediction.exported_model import ExportedModel
from vitdet_plugin.prediction.torch_model import TorchModel
from vitdet_plugin.runtime.backends import Session
from vitdet_plugin.runtime.pipeline import Step


class Runner(Protocol):
    """A model of one backend."""

    def preprocess(self, source: Any) -> dict[str, Any]:
        """Return the input for an image file or array."""

    def key(self, packed: dict[str, Any]) -> Hashable:
        """Return what inputs of a batch have in common."""

    def shape(self, packed: dict[str, Any]) -> tuple[int, int]:
        """Return height and width of what the model computes for this input."""

    def predict(self, packs: Sequence[dict[str, Any]], score_thr: float) -> tuple[list[Any], float]:
        """Return the results, and the seconds of the model without post-processing."""


def step(runner: Runner, sources: Sequence[Any], score_thr: float) -> Seconds:
    """Predict a batch of images and return the duration of its parts."""
    start = time.perf_counter()
    packs = [runner.preprocess(source) for source in sources]
    middle = time.perf_counter()
    _, model = runner.predict(packs, score_thr)
    return Seconds(middle - start, model, max(time.perf_counter() - middle - model, 0.0))


class TorchRunner:
    """A model in PyTorch.

    Args:
        model: The model with its pipeline.
        dtype: ``'fp32'``, ``'bf16'`` or ``'fp16'``.
        threads: Threads of PyTorch.
    """

    def __init__(self, model: TorchModel, dtype: str, threads: int) -> None:
        self._model, self._dtype, self._threads = model, dtype, threads

    def preprocess(self, source: Any) -> dict[str, Any]:
        return self._model.pack(source, self._model.load(source))

    def key(self, packed: dict[str, Any]) -> Hashable:
        return self._model.key(packed)

    def shape(self, packed: dict[str, Any]) -> tuple[int, int]:
        height, width = packed['inputs'].shape[-2:]
        divisor = getattr(getattr(self._model.model, 'data_preprocessor', None), 'pad_size_divisor', 1) or 1
        return -(-height // divisor) * divisor, -(-width // divisor) * divisor

    def predict(self, packs: Sequence[dict[str, Any]], score_thr: float) -> tuple[list[Any], float]:
        if torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        self._model.use_dtype(self._dtype, '--dtype')
        timer = _Timer(self._model.device)
        with _timed(self._model.model, timer):
            results = self._model.predict(packs, score_thr)
        return list(results), timer.model - timer.postprocess


class FileRunner:
    """An exported file, prepared and post-processed as ``vitdet predict`` does.

    Args:
        model: The file.
        steps: How images are prepared, in place of the file's own steps.
    """

    def __init__(self, model: ExportedModel, steps: list[Step] | None = None) -> None:
        self._model = model
        self.is_classifier, self.classes, self.batch = model.is_classifier, model.classes, model.model.batch
        self._session = model.model.session = _TimedSession(model.model.session)
        if steps is not None:
            model.model.steps = steps

    def preprocess(self, source: Any) -> dict[str, Any]:
        return self._model.pack(source, self._model.load(source))

    def key(self, packed: dict[str, Any]) -> Hashable:
        return self._model.key(packed)

    def shape(self, packed: dict[str, Any]) -> tuple[int, int]:
        return packed['prepared'].canvas

    def predict(self, packs: Sequence[dict[str, Any]], score_thr: float) -> tuple[list[Any], float]:
        self._session.seconds = 0.0
        return list(self._model.predict(packs, score_thr)), self._session.seconds


class _TimedSession:
    """A session of the runtime that adds up the seconds of its runs."""

    def __init__(self, session: Session) -> None:
        self._session, self.seconds = session, 0.0
        self.metadata, self.shape, self.outputs, self.device = (
            session.metadata, session.shape, session.outputs, session.device)

    def run(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        start = time.perf_counter()
        try:
            return self._session.run(batch)
        finally:
            self.seconds += time.perf_counter() - start


class _Timer:
    """Seconds of the model as a whole, and of the post-processing within it."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._is_inside = device, False
        self.model = self.postprocess = 0.0

    def wrap(self, function: Callable[..., Any], is_postprocess: bool) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            if is_postprocess and self._is_inside:
                return function(*args, **kwargs)
            start = self._now()
            self._is_inside = is_postprocess
            try:
                return function(*args, **kwargs)
            finally:
                self._is_inside = False
                if is_postprocess:
                    self.postprocess += self._now() - start
                else:
                    self.model += self._now() - start
        return timed

    def _now(self) -> float:
        if self._device.type == 'cuda':
            torch.cuda.synchronize(self._device)
        return time.perf_counter()


@contextlib.contextmanager
def _timed(model: nn.Module, timer: _Timer) -> Iterator[None]:
    """Time ``test_step``, and in it the conversion of the heads' outputs to objects; the RPN's belongs to the model."""
    wrapped: list[tuple[Any, str]] = [(model, 'test_step')]
    wrapped += [(module, 'predict_by_feat') for name, module in model.named_modules()
                if hasattr(module, 'predict_by_feat') and 'rpn' not in name]
    for target, name in wrapped:
        target.__dict__[name] = timer.wrap(getattr(target, name), name == 'predict_by_feat')
    try:
        yield
    finally:
        for target, name in wrapped:
            target.__dict__.pop(name, None)
