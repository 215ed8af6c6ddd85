"""Whether a model is being exported, for every supported version of torch."""

import torch


def is_exporting() -> bool:
    """Whether ``torch.onnx.export`` or ``torch.export`` is running."""
    if hasattr(torch.compiler, 'is_exporting'):
        exporting = torch.compiler.is_exporting()
    else:  # torch 2.6: torch.export(strict=False) sets this flag, torch.compile does not
        exporting = torch.compiler._is_compiling_flag
    return bool(torch.onnx.is_in_onnx_export() or exporting)
