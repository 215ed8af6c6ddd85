"""One rule for the stand-in operators: compute in float32 or float64, whatever the inputs are."""

import torch
from torch import Tensor


def widen(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Cast to float64 if any input is float64, else to float32.

    torchvision's CPU kernels refuse bfloat16 (and nms float16), and they want one dtype for all arguments. Autocast
    runs these operators in float32 for the sake of the coordinates, and so does this.
    """
    wide = torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32
    return tuple(t.to(wide) for t in tensors)
