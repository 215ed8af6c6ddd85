"""Whether a model is being exported, for every supported version of torch."""

import torch


def is_exporting() -> bool:
    """Whether ``torch.onnx.export`` or ``torch.export`` is running.

    torch before 2.7 has no ``torch.compiler.is_exporting``; compilation counts as an export there.
    """
    exporting = getattr(torch.compiler, 'is_exporting', torch.compiler.is_compiling)
    return bool(torch.onnx.is_in_onnx_export() or exporting())
