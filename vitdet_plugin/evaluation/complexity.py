"""Parameters, multiply-accumulates, speed and memory of a model."""

from __future__ import annotations

import gc
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vitdet_plugin.config.input_shape import input_shape
from vitdet_plugin.engine.load_model import LoadedModel
from vitdet_plugin.errors import UserError
from vitdet_plugin.ops import flops

AGREEMENT = 0.05  # maximum relative difference of the two counts of multiply-accumulates


@dataclass
class Complexity:
    """Complexity of a model for one image.

    Attributes:
        name: Name of the config or class.
        shape: Height and width of the input in pixels.
        parts: Maps the name of each part (backbone, neck, heads) to (parameters, multiply-accumulates).
        parameters: Number of parameters.
        trainable: Number of parameters that require a gradient.
        macs: Multiply-accumulates of convolutions, linear layers and attention, counted by torch's
            ``FlopCounterMode``. Vision papers usually report this number as FLOPs.
        macs_traced: Multiply-accumulates counted by mmengine, including normalization and resizing, but without fused
            operators of torch; None if mmengine cannot trace the model.
        not_traced: Operators in the trace that mmengine does not count, and their number.
        seconds: Median time of a prediction including post-processing; None if not measured.
        memory: Increase of the peak memory by a prediction in bytes; None if not measured.
        device: Device of the measurements.
    """

    name: str
    shape: tuple[int, int]
    parts: dict[str, tuple[int, int]]
    parameters: int
    trainable: int
    macs: int
    macs_traced: int | None
    not_traced: dict[str, int]
    seconds: float | None = None
    memory: int | None = None
    device: str = 'cpu'

    @property
    def agrees(self) -> bool | None:
        """Whether both counts differ by at most 5 %; None without a traced count."""
        return None if self.macs_traced is None else abs(self.macs_traced / max(self.macs, 1) - 1) <= AGREEMENT

    def as_dict(self) -> dict[str, Any]:
        """Return the values in a form that can be written as JSON."""
        parts = {name: dict(parameters=count, macs=macs) for name, (count, macs) in self.parts.items()}
        return {**vars(self), 'shape': list(self.shape), 'parts': parts, 'agrees': self.agrees}

    def __str__(self) -> str:
        width = max(12, *(len(name) for name in self.parts))
        lines = [f'{self.name}, input 3 x {self.shape[0]} x {self.shape[1]}, {self.device}',
                 f'{"":<{width}} {"parameters":>12} {"GMACs":>9}']
        for name, (count, macs) in [*self.parts.items(), ('all', (self.parameters, self.macs))]:
            lines.append(f'{name:<{width}} {count / 1e6:>10.3f} M {macs / 1e9:>9.3f}')
        if self.macs_traced is None:
            lines.append('not cross-checked: mmengine cannot trace this model')
        else:
            lines.append(f'cross-check by mmengine: {self.macs_traced / 1e9:.3f} GMACs' + (
                '' if self.agrees else f'; not counted: {", ".join(list(self.not_traced)[:6]) or "nothing"}'))
        if self.seconds is not None:
            lines.append(f'{self.seconds * 1e3:.1f} ms per image ({1 / self.seconds:.2f} images/s)' + (
                f', +{self.memory / 2**20:.0f} MB' if self.memory is not None else ''))
        return '\n'.join(lines)


def measure(loaded: LoadedModel, shape: tuple[int, int] | None = None, repeats: int = 5,
            trace: bool = True) -> Complexity:
    """Measure a model on one random image.

    Args:
        loaded: A classifier or a detector.
        shape: Height and width in pixels; by default the output size of the test pipeline, or the backbone's
            ``img_size``.
        repeats: Number of timed predictions after a warmup prediction; 0 disables measuring speed and memory.
        trace: Whether to also count with mmengine.

    Raises:
        UserError: If the model does not support an image of this shape.
    """
    shape = shape or input_shape(loaded.cfg, or_backbone_size=True)
    model = loaded.model
    inputs = torch.randn(1, 3, *shape, device=loaded.device)
    forward = _Forward(model, None if loaded.is_classifier else detection_sample(shape))
    with torch.no_grad():
        try:
            total, by_part = count_macs(forward, inputs)
        except (RuntimeError, ValueError) as error:
            raise UserError(f'the model does not support an input of {shape[0]} x {shape[1]} pixels, pass another '
                            f'--shape: {str(error).splitlines()[0]}') from error
        traced, not_traced = _traced_macs(forward, inputs) if trace else (None, {})
        seconds = memory = None
        if repeats:
            predict = _predict_step(loaded, inputs, shape)
            memory = peak_memory(predict, loaded.device)
            seconds = statistics.median(_timed(predict, loaded.device) for _ in range(repeats))
    parts = {}
    for name, child in model.named_children():
        parameters = sum(p.numel() for p in child.parameters())
        if parameters:
            parts[name] = (parameters, by_part.get(name, 0))
    counted = list(model.parameters())
    return Complexity(getattr(loaded.cfg, 'filename', None) or type(model).__name__, tuple(shape), parts,
                      sum(p.numel() for p in counted), sum(p.numel() for p in counted if p.requires_grad), total,
                      traced, not_traced, seconds, memory, str(loaded.device))


def count_macs(forward: nn.Module, inputs: Tensor) -> tuple[int, dict[str, int]]:
    """Count multiply-accumulates with torch's ``FlopCounterMode``.

    Args:
        forward: A module that has the measured model as its attribute ``model``.
        inputs: Input of ``forward``, of shape ``(B, C, H, W)``.

    Returns:
        The total of ``forward(inputs)``, and the count of each child of ``forward.model``.
    """
    from torch.utils.flop_counter import FlopCounterMode
    flops.register()
    with FlopCounterMode(display=False, depth=None) as counter:
        forward(inputs)
    prefix = f'{type(forward).__name__}.model.'
    counts = {name.removeprefix(prefix): sum(operators.values()) // 2
              for name, operators in counter.get_flop_counts().items() if name.startswith(prefix)}
    by_part: dict[str, int] = {}
    for name, macs in counts.items():
        parents = name.split('.')[:-1]
        # only count modules without a counted parent; heads that are not called as a whole have counted children only
        if not any('.'.join(parents[:end]) in counts for end in range(1, len(parents) + 1)):
            part = name.split('.')[0]
            by_part[part] = by_part.get(part, 0) + macs
    return counter.get_total_flops() // 2, by_part


def _traced_macs(forward: nn.Module, inputs: Tensor) -> tuple[int | None, dict[str, int]]:
    from mmengine.analysis import FlopAnalyzer  # used by get_model_complexity_info; called directly to trace only once
    ours = [module for module in forward.modules() if getattr(module, 'form', None) == 'auto']
    for module in ours:
        module.form = 'dense'  # a trace does not count the operators inside custom functions
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try:
            counter = FlopAnalyzer(forward, (inputs,)).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
            total, skipped = counter.total(), counter.unsupported_ops()
        except Exception:  # tracing can raise any exception
            return None, {}
        finally:
            for module in ours:
                module.form = 'auto'
    return int(total), dict(skipped)


class _Forward(nn.Module):
    """Wrap a model as a function of its input tensor that returns all raw outputs as a flat tuple."""

    def __init__(self, model: nn.Module, data_sample: Any) -> None:
        super().__init__()
        self.model, self.data_sample = model, data_sample

    def forward(self, inputs: Tensor) -> tuple[Tensor, ...]:
        samples = None if self.data_sample is None else [self.data_sample]
        return tuple(_tensors(self.model(inputs, samples, mode='tensor')))


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [tensor for each in value for tensor in _tensors(each)] if isinstance(value, (tuple, list)) else []


def detection_sample(shape: tuple[int, int]) -> Any:
    """Return a data sample of mmdet for an image (height, width) without resizing or padding."""
    from mmdet.structures import DetDataSample
    return DetDataSample(metainfo=dict(img_id=0, img_shape=shape, ori_shape=shape, pad_shape=shape,
                                       batch_input_shape=shape, scale_factor=(1.0, 1.0)))


def _predict_step(loaded: LoadedModel, inputs: Tensor, shape: tuple[int, int]) -> Callable[[], Any]:
    if loaded.is_classifier:
        return lambda: loaded.model(inputs, None, mode='predict')
    return lambda: loaded.model(inputs, [detection_sample(shape)], mode='predict')


def _timed(step: Callable[[], Any], device: torch.device) -> float:
    _wait(device)
    start = time.perf_counter()
    step()
    _wait(device)
    return time.perf_counter() - start


def peak_memory(step: Callable[[], Any], device: torch.device) -> int | None:
    """Return the increase of the peak memory by ``step`` in bytes.

    On a GPU this is the memory of tensors, on a CPU that of the process; None if it cannot be measured (not Linux).
    """
    gc.collect()
    if device.type == 'cuda':
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        return torch.cuda.max_memory_allocated(device) - before
    try:
        with open('/proc/self/clear_refs', 'w') as file:  # writing 5 resets the peak
            file.write('5')
        before = _status('VmRSS')
        step()
        return max(0, _status('VmHWM') - before)
    except (OSError, StopIteration):
        step()
        return None


def _status(key: str) -> int:
    with open('/proc/self/status') as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(f'{key}:'))


def _wait(device: torch.device) -> None:
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
