"""Observe the losses and control the optimizer steps of one training run; only its own objects are patched."""

from collections.abc import Callable
from typing import Any

from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from vitdet_plugin.compat.patching import Patch

_PARSE = Patch('mmengine.model.BaseModel', 'parse_losses', upstream='mmengine 0.10',
               why='no hook receives the parts of a loss before the optimizer step (one model)')
_UPDATE = Patch('mmengine.optim.OptimWrapper', 'update_params', upstream='mmengine 0.10',
                why='no hook can skip a step after its loss is computed (one optimizer wrapper)')
_CLIP = Patch('mmengine.optim.OptimWrapper', '_clip_grad', upstream='mmengine 0.10',
              why='expects a plain tensor as the norm, which is sharded under FSDP (one optimizer wrapper)')


def watch_losses(model: nn.Module, receive: Callable[[dict[str, Any]], None]) -> None:
    """Call ``receive`` with the parts of each loss that ``model.parse_losses`` returns."""

    def wrap(parse: Callable) -> Callable:
        def parse_losses(losses, *args, **kwargs):
            total, parts = parse(losses, *args, **kwargs)
            receive(parts)
            return total, parts

        return parse_losses

    _PARSE.install(wrap, model)


def guard_steps(optim_wrapper: OptimWrapper, is_refused: Callable[[Tensor], bool]) -> bool:
    """Skip the steps whose loss ``is_refused``, and drop the gradients accumulated so far.

    Args:
        optim_wrapper: Optimizer wrapper of the training run.
        is_refused: Called with each loss before its backward pass.

    Returns:
        False if the steps of ``optim_wrapper`` are guarded already; nothing is changed then.
    """
    if _UPDATE.is_on(optim_wrapper.update_params):
        return False

    def wrap(update: Callable) -> Callable:
        def update_params(loss, *args, **kwargs):
            if is_refused(loss):
                optim_wrapper._inner_count += 1
                if optim_wrapper.should_update():
                    optim_wrapper.zero_grad()
                return
            update(loss, *args, **kwargs)

        return update_params

    _UPDATE.install(wrap, optim_wrapper)
    return True


def mark_losses(optim_wrapper: OptimWrapper, mark: Callable[[Tensor], Tensor]) -> bool:
    """Replace each loss by ``mark(loss)`` before its backward pass.

    Returns:
        False if the steps of ``optim_wrapper`` are guarded already; nothing is changed then.
    """
    if _UPDATE.is_on(optim_wrapper.update_params):
        return False
    _UPDATE.install(lambda update: lambda loss, *args, **kwargs: update(mark(loss), *args, **kwargs), optim_wrapper)
    return True


def clip_gradients(optim_wrapper: OptimWrapper) -> tuple[str, Any] | None:
    """Clip the gradients as mmengine does; return the name and value of their norm for the log.

    Returns:
        None without gradients, and for clipping by value.
    """
    parameters = [each for group in optim_wrapper.optimizer.param_groups for each in group['params']
                  if each.requires_grad and each.grad is not None]
    norm = optim_wrapper.clip_func(parameters, **optim_wrapper.clip_grad_kwargs) if parameters else None
    return None if norm is None else (f'train/{optim_wrapper.grad_name}', norm)


def clip_with(optim_wrapper: OptimWrapper, clip: Callable[[], None]) -> None:
    """Clip the gradients of ``optim_wrapper`` by calling ``clip``."""
    _CLIP.install(lambda original: clip, optim_wrapper)
