"""Automatic mixed precision on CPUs and GPUs; mmengine's own wrapper requires an accelerator."""

from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import Tensor, nn

from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.precision import DTYPES, short_name


@OPTIM_WRAPPERS.register_module()
class AutocastOptimWrapper(OptimWrapper):
    """Train under ``torch.autocast`` on the device of the parameters.

    bfloat16 has the range of float32 and trains without a gradient scaler. float16 trains with one, whose state is
    saved and resumed with that of the optimizer. Gradient accumulation and clipping work as in mmengine: gradients are
    unscaled before they are clipped, and a step whose gradients overflowed is skipped.

    Args:
        dtype: 'bf16' or 'fp16' (also 'bfloat16', 'float16').
        loss_scale: 'dynamic', an initial scale, or a dict of arguments for ``torch.amp.GradScaler``.
        kwargs: Arguments of mmengine's OptimWrapper (optimizer, accumulative_counts, clip_grad).

    Raises:
        UserError: The dtype does not exist, or this device cannot train in it.
    """

    def __init__(self, dtype: str = 'bf16', loss_scale: str | float | dict = 'dynamic', **kwargs):
        super().__init__(**kwargs)
        self.device_type = self.optimizer.param_groups[0]['params'][0].device.type
        self.cast_dtype = _checked(dtype, self.device_type)
        self.loss_scaler = torch.amp.GradScaler(self.device_type, enabled=self.cast_dtype == torch.float16,
                                                **_scaler_arguments(loss_scale))

    def backward(self, loss: Tensor, **kwargs) -> None:
        """Back-propagate the scaled ``loss`` (a scalar)."""
        self.loss_scaler.scale(loss).backward(**kwargs)
        self._inner_count += 1

    def step(self, **kwargs) -> None:
        """Unscale, clip if configured, and step unless the gradients overflowed."""
        if self.clip_grad_kwargs:
            self.loss_scaler.unscale_(self.optimizer)
            self._clip_grad()
        self.loss_scaler.step(self.optimizer, **kwargs)
        self.loss_scaler.update()

    def state_dict(self) -> dict:
        """State of the optimizer, and of the scaler under ``loss_scaler``."""
        return {**super().state_dict(), 'loss_scaler': self.loss_scaler.state_dict()}

    def load_state_dict(self, state_dict: dict) -> None:
        """Resume; a state saved without a scaler, or with a disabled one, keeps the new scaler unchanged."""
        state_dict = dict(state_dict)
        scaler = state_dict.pop('loss_scaler', None)
        if scaler and self.loss_scaler.is_enabled():
            self.loss_scaler.load_state_dict(scaler)
        super().load_state_dict(state_dict)

    @contextmanager
    def optim_context(self, model: nn.Module):
        """Run the forward pass and the losses in mixed precision."""
        with super().optim_context(model), torch.autocast(self.device_type, self.cast_dtype):
            yield


def _scaler_arguments(loss_scale: str | float | dict) -> dict:
    if loss_scale == 'dynamic':
        return {}
    if isinstance(loss_scale, dict):
        return dict(loss_scale)
    if isinstance(loss_scale, (int, float)):
        return {'init_scale': float(loss_scale)}
    raise UserError(f'loss_scale={loss_scale!r}: give "dynamic", a number or a dict')


def _checked(dtype: str | torch.dtype, device_type: str) -> torch.dtype:
    cast = DTYPES.get(short_name(dtype), torch.float32)
    if cast == torch.float32:
        raise UserError(f'mixed precision in {dtype!r}: choose bf16 or fp16')
    if cast == torch.bfloat16 and device_type == 'cuda' and not torch.cuda.is_bf16_supported():
        raise UserError(f'{torch.cuda.get_device_name()} cannot compute in bf16: use fp16')
    with torch.autocast(device_type, cast):
        if not torch.is_autocast_enabled(device_type):  # torch warns and continues in float32
            raise UserError(f'torch {torch.__version__} has no mixed precision in {dtype} on {device_type}: use bf16')
    return cast
