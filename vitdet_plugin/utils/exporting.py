"""Whether a model is being exported, traced or compiled, for every supported version of torch."""

from typing import Any

import torch


def is_exporting() -> bool:
    """Whether ``torch.onnx.export``, ``torch.export`` or ``torch.jit.trace`` is running.

    Their results run without this package, so they must not contain its operators.
    """
    # not torch.compiler.is_exporting(), which torch.compile takes for true from torch 2.7 to at least 2.11
    exporting = getattr(torch.compiler, '_is_exporting_flag', None)
    if exporting is None:  # torch 2.6: torch.export(strict=False) sets this flag, torch.compile does not
        exporting = torch.compiler._is_compiling_flag
    return bool(torch.jit.is_tracing() or torch.onnx.is_in_onnx_export() or exporting)


def may_vary(*sizes: Any) -> bool:
    """Whether one of the sizes is a symbol of a graph that is being captured.

    The graph is run for other values as well, so code must not branch on such a size. Under ``torch.compile`` all sizes
    count as symbols.

    Args:
        sizes: Sizes of tensors, as ``Tensor.shape`` returns them.
    """
    return torch.compiler.is_dynamo_compiling() or not all(isinstance(size, int) for size in sizes)
