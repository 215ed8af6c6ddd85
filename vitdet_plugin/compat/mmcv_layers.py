"""Feed-forward networks and self-attention of mmcv's transformer layers: the same results with less memory traffic.

DINO's encoder computes 20,000 tokens of 2048 hidden features for an image of 800 x 1216; at inference on a CPU they are
computed for a part of the tokens at a time. mmcv does not use the attention weights that ``nn.MultiheadAttention``
returns, and without them PyTorch's fused attention is used.
"""

import functools
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from vitdet_plugin.compat.patching import Patch
from vitdet_plugin.utils.chunks import in_chunks, should_chunk
from vitdet_plugin.utils.exporting import is_exporting

_UPSTREAM = 'mmcv 2.1, onedl-mmcv 2.3'
_FFN = Patch('mmcv.cnn.bricks.transformer.FFN', 'forward', upstream=_UPSTREAM,
             why='writes the hidden features of all tokens to memory')
_ATTENTION = Patch('mmcv.cnn.bricks.transformer.MultiheadAttention', '__init__', upstream=_UPSTREAM,
                   why='computes attention weights that it does not return')


def install() -> None:
    """Replace the forward pass of mmcv's feed-forward network, and adapt new attention layers, once."""
    _FFN.install(_in_chunks)
    _ATTENTION.install(_without_weights)


def _in_chunks(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    @functools.wraps(forward)
    def feed_forward(self: nn.Module, x: Tensor, identity: Tensor | None = None, **options: Any) -> Tensor:
        added = x if identity is None else identity
        # in training, stochastic depth applies to whole images
        if self.training or options or added.shape != x.shape or not should_chunk(x):
            return forward(self, x, identity, **options)
        return in_chunks(functools.partial(forward, self), x, added)

    return feed_forward


def _without_weights(init: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(init)
    def build(self: nn.Module, *args: Any, **options: Any) -> None:
        init(self, *args, **options)
        self.attn.register_forward_pre_hook(_needs_weights, with_kwargs=True)

    return build


def _needs_weights(attention: nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Request the weights for forward hooks, such as those of activation maps, and for exports."""
    return args, {'need_weights': bool(attention._forward_hooks) or is_exporting(), **options}
