"""Types that this GPU computes in."""


def has_gpu_bf16() -> bool:
    """Whether the current CUDA device has instructions for bfloat16 (compute capability 8.0); others emulate it."""
    import torch
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
