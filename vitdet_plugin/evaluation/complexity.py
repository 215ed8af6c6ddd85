"""Size, arithmetic, speed and memory of a model."""

from __future__ import annotations

import gc
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor, nn

from vitdet_plugin.config.dataset_config import leaf_datasets
from vitdet_plugin.engine.load_model import LoadedModel
from vitdet_plugin.errors import UserError

AGREEMENT = 0.05  # of the two counts of multiplications


@dataclass
class Complexity:
    """Figures of a model for one picture.

    Attributes:
        parts: name of each part (backbone, neck, heads) to (parameters, multiply-accumulates by torch's count).
        parameters, trainable: numbers of parameters.
        macs: multiply-accumulates of convolutions, linear layers and attention, by torch's ``FlopCounterMode``; FLOPs
            in papers on vision are mostly these.
        macs_traced: the same by mmengine's ``get_model_complexity_info``, which also counts normalisation and
            resizing, but not what torch fuses; None where it cannot trace the model.
        not_traced: operators of the trace that mmengine does not count.
        seconds: median of a prediction, post-processing included; None if not measured.
        memory: bytes by which a prediction raises the peak of memory; None if not measured.
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
        """Whether both counts are within 5 %; None without a second one."""
        return None if self.macs_traced is None else abs(self.macs_traced / max(self.macs, 1) - 1) <= AGREEMENT

    def as_dict(self) -> dict[str, Any]:
        """For ``json.dump``."""
        parts = {name: dict(parameters=count, macs=macs) for name, (count, macs) in self.parts.items()}
        return {**vars(self), 'shape': list(self.shape), 'parts': parts, 'agrees': self.agrees}

    def __str__(self) -> str:
        width = max(12, *(len(name) for name in self.parts))
        lines = [f'{self.name}, input 3 x {self.shape[0]} x {self.shape[1]}, {self.device}',
                 f'{"":<{width}} {"parameters":>12} {"GMACs":>9}']
        for name, (count, macs) in [*self.parts.items(), ('all', (self.parameters, self.macs))]:
            lines.append(f'{name:<{width}} {count / 1e6:>10.3f} M {macs / 1e9:>9.3f}')
        if self.macs_traced is None:
            lines.append('mmengine cannot trace this model; the count is not cross-checked')
        else:
            lines.append(f'cross-check by mmengine: {self.macs_traced / 1e9:.3f} GMACs' + (
                '' if self.agrees else f'; not counted there: {", ".join(list(self.not_traced)[:6]) or "nothing"}'))
        if self.seconds is not None:
            lines.append(f'{self.seconds * 1e3:.1f} ms a picture ({1 / self.seconds:.2f} a second)' + (
                f', +{self.memory / 2**20:.0f} MB' if self.memory is not None else ''))
        return '\n'.join(lines)


def measure(loaded: LoadedModel, shape: tuple[int, int] | None = None, repeats: int = 5,
            trace: bool = True) -> Complexity:
    """Count and time a model on one random picture.

    Args:
        loaded: A classifier or a detector.
        shape: Height and width in pixels; by default what the config's test pipeline makes.
        repeats: Timed predictions after one to warm up; 0 leaves speed and memory out.
        trace: Whether to count by mmengine as well.

    Raises:
        UserError: The model cannot take a picture of this shape.
    """
    shape = shape or input_shape(loaded.cfg)
    model = loaded.model
    inputs = torch.randn(1, 3, *shape, device=loaded.device)
    forward = _Forward(model, None if loaded.is_classifier else _detection_sample(shape))
    with torch.no_grad():
        try:
            total, by_part = count_macs(forward, inputs)
        except (RuntimeError, ValueError) as error:
            raise UserError(f'the model cannot take {shape[0]} x {shape[1]} pixels: {str(error).splitlines()[0]}'
                            ) from error
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


def input_shape(cfg: Config) -> tuple[int, int]:
    """(H, W) that the test pipeline gives, padded as the model asks.

    Raises:
        UserError: The pipeline resizes by a factor, or not at all.
    """
    loader, size = cfg.get('test_dataloader'), None
    _, dataset = next(leaf_datasets(loader.dataset if loader else {}, ''))
    for step in dataset.get('pipeline') or ():
        kind = str(step.get('type')).split('.')[-1]
        if kind == 'CenterCrop' and step.get('crop_size'):
            size = step['crop_size']
        elif kind in ('Resize', 'ResizeEdge') and step.get('scale'):
            size = step['scale']
        elif kind == 'LetterBox':
            size = step.get('img_size', 640)
    if size is None:
        raise UserError(f'config {cfg.filename}: the test pipeline makes pictures of any size; give --shape H W')
    width, height = (size, size) if isinstance(size, int) else (size[0], size[1])
    preprocessor = cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    divisor = preprocessor.get('pad_size_divisor') or 1
    return tuple(-(-side // divisor) * divisor for side in (height, width))


def count_macs(forward: nn.Module, inputs: Tensor) -> tuple[int, dict[str, int]]:
    """Multiply-accumulates of ``forward(inputs)`` and of each child of ``forward.model``, by torch."""
    from torch.utils.flop_counter import FlopCounterMode
    with FlopCounterMode(display=False, depth=None) as counter:
        forward(inputs)
    prefix = f'{type(forward).__name__}.model.'
    counts = {name.removeprefix(prefix): sum(operators.values()) // 2
              for name, operators in counter.get_flop_counts().items() if name.startswith(prefix)}
    by_part: dict[str, int] = {}
    for name, macs in counts.items():
        above = name.split('.')[:-1]
        if not any('.'.join(above[:end]) in counts for end in range(1, len(above) + 1)):  # some heads are not called
            part = name.split('.')[0]                                                     # as a whole, their parts are
            by_part[part] = by_part.get(part, 0) + macs
    return counter.get_total_flops() // 2, by_part


def _traced_macs(forward: nn.Module, inputs: Tensor) -> tuple[int | None, dict[str, int]]:
    from mmengine.analysis import FlopAnalyzer  # what get_model_complexity_info counts with, in one trace
    ours = [module for module in forward.modules() if getattr(module, 'form', None) == 'auto']
    for module in ours:
        module.form = 'dense'  # attention as the formula stands, as a trace cannot look into functions of our own
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try:
            counter = FlopAnalyzer(forward, (inputs,)).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
            total, skipped = counter.total(), counter.unsupported_ops()
        except Exception:  # tracing fails in as many ways as there are models
            return None, {}
        finally:
            for module in ours:
                module.form = 'auto'
    return int(total), dict(skipped)


class _Forward(nn.Module):
    """A model's raw outputs, flat, as a function of its input alone."""

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


def _detection_sample(shape: tuple[int, int]) -> Any:
    from mmdet.structures import DetDataSample
    return DetDataSample(metainfo=dict(img_id=0, img_shape=shape, ori_shape=shape, pad_shape=shape,
                                       batch_input_shape=shape, scale_factor=(1.0, 1.0)))


def _predict_step(loaded: LoadedModel, inputs: Tensor, shape: tuple[int, int]) -> Callable[[], Any]:
    if loaded.is_classifier:
        return lambda: loaded.model(inputs, None, mode='predict')
    return lambda: loaded.model(inputs, [_detection_sample(shape)], mode='predict')


def _timed(step: Callable[[], Any], device: torch.device) -> float:
    _wait(device)
    start = time.perf_counter()
    step()
    _wait(device)
    return time.perf_counter() - start


def peak_memory(step: Callable[[], Any], device: torch.device) -> int | None:
    """Bytes by which ``step`` raises the peak: of tensors on a GPU, of the process on a CPU (Linux; else None)."""
    gc.collect()
    if device.type == 'cuda':
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        return torch.cuda.max_memory_allocated(device) - before
    try:
        with open('/proc/self/clear_refs', 'w') as file:  # the peak starts again from here
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
