"""Precision of the stand-in operators: float32 or float64, independent of the inputs."""

import torch
from torch import Tensor


def widen(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Cast to float64 if any input is float64, else to float32.

    torchvision's CPU kernels do not support bfloat16 (nms also not float16) and require one dtype for all arguments.
    Autocast runs these operators in float32 too, to keep the coordinates exact.
    """
    wide = torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32
    return tuple(t.to(wide) for t in tensors)
