"""Softmax attention with decomposed relative position bias, in interchangeable exact forms.

All forms compute ``softmax(scale * q k^T + rel_h + rel_w) v`` and its gradients; they differ in time and memory.
In the shapes below G = batch (and windows), N = heads, Q = queries, K = H * W keys, d = head dim.

==========  ================  ======================================================================================
form        module            description
==========  ================  ======================================================================================
triton      ``triton.py``     tiles of scores on the GPU, recomputed in the backward pass; no build step (GPU)
cpu         ``cpu.py``        compiled kernels for float32 and bfloat16; scores are never stored as a whole (CPU)
chunked     ``chunked.py``    blocks of scores that fit the CPU's cache, recomputed in the backward pass (CPU)
folded      ``folded.py``     bias folded into longer queries and keys, one call of PyTorch's fused attention (GPU)
flex        ``flex.py``       ``flex_attention`` with the bias as score modifier (GPU, compiled there)
dense       ``reference.py``  materializes a Q x K tensor for each head; used for ONNX
==========  ================  ======================================================================================
"""

from __future__ import annotations

from torch import Tensor

from vitdet_plugin.ops.case import case_of
from vitdet_plugin.ops.dispatch import Operator
from vitdet_plugin.ops.rel_pos_attention import chunked, cpu, flex, folded, reference, triton

OPERATOR = Operator('rel_pos_attention', [triton.BACKEND, cpu.BACKEND, chunked.BACKEND, folded.BACKEND,
                                          flex.BACKEND, reference.BACKEND])


def rel_pos_attention(q: Tensor, k: Tensor, v: Tensor, rel_h: Tensor, rel_w: Tensor, scale: float,
                      form: str | None = 'auto') -> Tensor:
    """Attention with the bias ``rel_h[i, y] + rel_w[i, x]`` for query i and key (y, x).

    Args:
        q: (G, N, Q, d).
        k, v: (G, N, H * W, d).
        rel_h: (G, N, Q, H).
        rel_w: (G, N, Q, W).
        scale: factor of the scores ``q k^T``; the bias is not scaled.
        form: form to use; None or 'auto': on the CPU the compiled kernel, else chunked; triton on a GPU that it can
            serve, folded elsewhere, dense while exporting.

    Returns:
        (G, N, Q, d).

    Raises:
        BackendError: ``form`` is unknown.
    """
    case = case_of(q, head_dim=q.shape[-1])
    out: Tensor = OPERATOR.choose(case, form).run(q, k, v, rel_h, rel_w, scale)
    return out
