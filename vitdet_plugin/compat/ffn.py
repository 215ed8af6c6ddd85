"""mmcv's feed-forward network of transformers in chunks, at inference on a CPU.

Its hidden features for all tokens of an encoder do not fit the cache: 160 MB for DINO at 800 x 1216.
"""

import functools
from collections.abc import Callable

from torch import Tensor

from vitdet_plugin.compat.patching import Patch
from vitdet_plugin.utils.row_chunks import in_chunks, should_chunk

_PATCH = Patch('mmcv.cnn.bricks.transformer.FFN', 'forward', upstream='mmcv 2.1, onedl-mmcv 2.3',
               why='computes the hidden features of all tokens at once, which do not fit the cache of a CPU')


def install() -> None:
    """Wrap ``FFN.forward``, once."""
    _PATCH.install(_chunked)


def _chunked(forward: Callable) -> Callable:
    @functools.wraps(forward)
    def forward_in_chunks(self, x: Tensor, *args, **kwargs) -> Tensor:
        identity = args[0] if args else kwargs.get('identity')
        # in training, the dropout of whole samples depends on the first dimension
        if self.training or not should_chunk(x) or 'residual' in kwargs or not _same_rows(x, identity):
            return forward(self, x, *args, **kwargs)
        if identity is None:
            return in_chunks(lambda rows: forward(self, rows), x)
        return in_chunks(lambda rows, others: forward(self, rows, others), x, identity)

    return forward_in_chunks


def _same_rows(x: Tensor, identity: Tensor | None) -> bool:
    return identity is None or identity.shape[:-1] == x.shape[:-1]
