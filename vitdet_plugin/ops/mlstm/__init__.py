"""The mLSTM cell (xLSTM, arXiv 2405.04517, section 2.3) in interchangeable exact forms.

With F = log sigmoid(f~), P_t = F_1 + ... + F_t and u_j = i~_j - P_j, token j has the weight exp(P_t + u_j) in the
memory of token t >= j. All forms compute, stabilized by m_t = P_t + max_{j<=t} u_j,

    A_tj = q_t k_j / sqrt(d) * exp(P_t + u_j - m_t)  (j <= t)
    h_t = sum_j A_tj v_j / (max(|sum_j A_tj|, exp(-m_t)) + 1e-6)

and its gradients; they differ in time and memory. Shapes: (..., S, d) for q, k, v and (..., S) for the gates.

==========  =================  =====================================================================================
form        module             description
==========  =================  =====================================================================================
chunkwise   ``chunkwise.py``   chunks of L tokens, connected by the memory: time and memory linear in S. The
                               backward pass recomputes the rest from inputs and output. On a CPU the steps between
                               products are compiled kernels (``cpu.py``) if there is a compiler.
triton      ``triton.py``      the same chunks by kernels for GPUs, without a build step
parallel    ``reference.py``   materializes several S x S tensors for each head; used for short sequences and ONNX
recurrent   ``recurrent.py``   one token after the other, with a d x d memory; for tests
==========  =================  =====================================================================================
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vitdet_plugin.ops.case import case_of
from vitdet_plugin.ops.dispatch import Operator
from vitdet_plugin.ops.mlstm import operator, recurrent, reference, triton

OPERATOR = Operator('mlstm', [triton.BACKEND, operator.BACKEND, reference.BACKEND, recurrent.BACKEND])


def mlstm(q: Tensor, k: Tensor, v: Tensor, i_gate: Tensor, f_gate: Tensor, *, valid: Tensor | None = None,
          form: str | None = 'auto', chunk: int | None = None) -> Tensor:
    """One pass over the tokens, in their order.

    Args:
        q, k, v: (..., S, d).
        i_gate, f_gate: (..., S), before exp and sigmoid; converted to float32 at least.
        valid: (..., S) bool, broadcastable; other tokens neither enter the memory nor decay it (i~ = -inf, F = 0).
        form: form to use; None or 'auto': triton on a GPU that it can serve, chunkwise elsewhere, but parallel for up
            to 64 tokens and while exporting.
        chunk: tokens in each chunk of the chunkwise form; by default chosen from d, S and the device.

    Returns:
        (..., S, d) with the dtype of q; values at tokens that are not valid are undefined.

    Raises:
        BackendError: ``form`` is unknown.
    """
    wide = torch.promote_types(i_gate.dtype, torch.float32)
    i_gate, log_f = i_gate.to(wide), F.logsigmoid(f_gate.to(wide))
    if valid is not None:
        i_gate, log_f = i_gate.masked_fill(~valid, reference.CLOSED_GATE), log_f.masked_fill(~valid, 0.0)
    # a compiled graph is used for any number of tokens
    tokens = None if torch.compiler.is_compiling() else q.shape[-2]
    out: Tensor = OPERATOR.choose(case_of(q, tokens=tokens), form).run(q, k, v, i_gate, log_f, chunk)
    return out
