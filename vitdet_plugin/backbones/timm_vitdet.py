"""Any plain vision transformer of timm as a detection backbone, with windowed attention (arXiv 2203.16527)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import timm
import torch
from mmengine.registry import MODELS
from timm.layers import resample_patch_embed
from torch import Tensor, nn

from vitdet_plugin import __version__
from vitdet_plugin.backbones.arguments import check_choice, check_frozen_stages, ends_of_quarters
from vitdet_plugin.backbones.base import Backbone, enter_stage
from vitdet_plugin.backbones.feature_cache import FeatureCache
from vitdet_plugin.errors import UserError
from vitdet_plugin.layers.lora import LoRALinear, add_lora, merge_lora
from vitdet_plugin.layers.timm_blocks import set_windowed_forward
from vitdet_plugin.layers.timm_models import (
    PREFIX_TOKENS,
    build_plain_vit,
    drop_prefix_tokens,
    grid_size,
    remove_unused,
)
from vitdet_plugin.layers.timm_positions import block_ropes, default_positions, is_dinov3_rope, resize_positions
from vitdet_plugin.utils.arguments import check_range, check_whole
from vitdet_plugin.utils.exporting import is_exporting
from vitdet_plugin.utils.module_hooks import has_hooks

POSITIONS = ('auto', 'antialias', 'bicubic', 'offset')  # how the table of absolute positions is resized
OUTPUTS = ('featmap', 'cls_token', 'avg_featmap', 'cls_avg')


@MODELS.register_module()
class TimmViTDet(Backbone):
    """Plain ViT of timm (DINOv2, DINOv3, EVA-02, BEiT, CLIP, SigLIP, DeiT-3, MAE, …) as a detection backbone.

    The network is built by timm and keeps timm's parameter names below ``net.``. Most blocks attend within windows; the
    others attend globally. With ``window_size=0`` the result equals timm's ``forward_intermediates``.

    Prefix tokens (class, registers) take part in the global blocks as usual. A windowed block copies them to every
    window and averages their results over the windows. ``prefix_tokens='drop'`` removes them.

    Rotary embeddings in windows: with ``rope_in_windows='restart'`` every window has the embeddings of a grid of the
    window's size, as in the detectors of EVA-02 (arXiv 2303.11331); with 'global' the tokens keep those of the image.

    Args:
        model: Name of a model of timm, or ``dict(family='VisionTransformer' | 'Eva' | 'Beit', **arguments)`` with the
            arguments of that class of timm.
        model_args: Further arguments for the model, such as ``dict(patch_size=16)``.
        img_size: Side in pixels of the table of absolute positions; None: the grid of the model. Inputs may have any
            size.
        patch_size: Patch size; None: that of the model. Weights of another patch size are resampled on loading.
        in_channels: Channels of the input.
        window_size: Side of the windows in tokens; 0: all blocks attend globally.
        global_block_indexes: Blocks that attend globally; None: the last block of each quarter of the depth.
        prefix_tokens: 'keep' or 'drop'.
        rope_in_windows: 'global' or 'restart'.
        positions: How absolute positions are resized to another grid: 'antialias' (bicubic, as timm), 'bicubic'
            (without antialiasing, as detectron2), 'offset' (as DINOv2 without registers), or 'auto': 'offset' for
            timm's models of that kind, otherwise 'antialias'.
        drop_path_rate: Stochastic depth, rising linearly from 0 to this rate.
        out_indices: Blocks of the returned maps; negative numbers count from the end.
        out_type: 'featmap' for maps, or for classifiers 'cls_token', 'avg_featmap', 'cls_avg' (both concatenated).
        final_norm: Whether the last norm is applied to the outputs; None: only for ``out_type`` other than 'featmap'.
        frozen_stages: -1 for none; 0 for the embeddings; n for the first n blocks as well; all blocks: the whole
            backbone, with its last norm.
        lora: ``dict(rank=8)``: instead of the weights, train updates of low rank in the blocks that are not frozen
            (LoRA). Further keys: ``alpha``, ``parts`` and ``dropout``, see :func:`~vitdet_plugin.layers.lora.add_lora`.
        feature_cache: Folder for the outputs of a backbone that is frozen as a whole: each distinct image is computed
            once, see :class:`~vitdet_plugin.backbones.feature_cache.FeatureCache`.
        with_cp: Recompute the blocks in the backward pass to save memory.

    Input (B, in_channels, H, W), H and W multiples of the patch size; output one map (B, C, H / patch, W / patch) for
    each of ``out_indices``, or vectors (B, C), with 'cls_avg' (B, 2 * C).

    Raises:
        UserError: The model is unknown or not a plain ViT, or an argument is not valid.
    """

    net: Any  # VisionTransformer, Eva or Beit of timm
    depth: int  # blocks of the model; those after the last output are removed
    num_prefix: int  # class and register tokens
    optional_weights = ('*.lora_[ab]', '*.lora_scale')
    key_weights = ('net.patch_embed.proj.weight', 'net.cls_token')
    # class and register tokens, absolute and rotary positions, LayerScale, a windowed and a global block
    small = dict(model=dict(family='Eva', embed_dim=32, depth=2, num_heads=2, num_reg_tokens=2, init_values=1.0,
                            use_rot_pos_emb=True, rope_type='dinov3', rope_rotate_half=True, swiglu_mlp=True,
                            global_pool='token'),
                 img_size=64, patch_size=16, window_size=2, global_block_indexes=[1])

    def __init__(self, model: str | dict, *, model_args: dict | None = None, img_size: int | None = None,
                 patch_size: int | None = None, in_channels: int = 3, window_size: int = 14,
                 global_block_indexes: Sequence[int] | None = None, prefix_tokens: str = 'keep',
                 rope_in_windows: str = 'global', positions: str = 'auto', drop_path_rate: float = 0.0,
                 out_indices: Sequence[int] = (-1,), out_type: str = 'featmap', final_norm: bool | None = None,
                 frozen_stages: int = -1, lora: dict | None = None, feature_cache: str | None = None,
                 with_cp: bool = False, init_cfg: dict | list[dict] | None = None,
                 pretrained: str | bool | None = None) -> None:
        super().__init__(init_cfg, pretrained, model)
        for name, value, choices in (('prefix_tokens', prefix_tokens, ('keep', 'drop')),
                                     ('rope_in_windows', rope_in_windows, ('global', 'restart')),
                                     ('positions', positions, POSITIONS), ('out_type', out_type, OUTPUTS)):
            check_choice(name, value, choices)
        check_range(0, 1, drop_path_rate=drop_path_rate)
        sides = dict(img_size=img_size, patch_size=patch_size)
        sides = {key: value for key, value in sides.items() if value is not None}
        check_whole(1, in_channels=in_channels, **sides)
        check_whole(0, window_size=window_size)
        own = dict(in_chans=in_channels, drop_path_rate=drop_path_rate, **sides)
        if repeated := own.keys() & (model_args or {}).keys():
            raise UserError(f'model_args: {", ".join(sorted(repeated))} is an argument of TimmViTDet itself (in_chans '
                            'is in_channels); give it there')
        self.net = build_plain_vit(model, {**own, **(model_args or {})})
        self.depth = depth = len(self.net.blocks)
        for block in self.net.blocks:
            set_windowed_forward(block)
        check_frozen_stages(frozen_stages, depth, 'blocks')
        if global_block_indexes is None:
            global_block_indexes = ends_of_quarters(depth)
        self.global_blocks = frozenset(range(depth) if not window_size else
                                       _indexes('global_block_indexes', global_block_indexes, depth))
        self.out_indices = tuple(_indexes('out_indices', out_indices, depth))
        if prefix_tokens == 'drop':
            drop_prefix_tokens(self.net)
        self.num_prefix = 0 if prefix_tokens == 'drop' else self.net.num_prefix_tokens
        if out_type in ('cls_token', 'cls_avg') and (not self.num_prefix or self.net.cls_token is None):
            raise UserError(f'out_type={out_type!r} requires a class token; choose avg_featmap')
        if final_norm is None:
            final_norm = out_type != 'featmap'
        self.positions = positions if positions != 'auto' else default_positions(model, self.net)
        self.window_size, self.rope_in_windows, self.out_type = window_size, rope_in_windows, out_type
        self.frozen_stages, self.with_cp = frozen_stages, with_cp
        self.embed_dim = self.net.embed_dim
        self.patch_size = self.size_divisor = self.net.patch_embed.patch_size[0]
        self.in_channels, self.size_divisor_name = in_channels, f'patch_size={self.patch_size}'
        channels = 2 * self.embed_dim if out_type == 'cls_avg' else self.embed_dim
        self.out_channels = (channels,) * len(self.out_indices)
        self.out_strides = (self.patch_size,) * len(self.out_indices)
        remove_unused(self.net, max(self.out_indices) + 1, final_norm)
        if is_dinov3_rope(getattr(self.net, 'rope', None)):
            # published periods are rounded to bfloat16: keep those of the checkpoint instead of computing them again
            self.net.rope.register_buffer('periods', self.net.rope.periods, persistent=True)
        if lora:
            blocks = self.net.blocks[max(frozen_stages, 0):]
            if not len(blocks):
                raise UserError(f'lora with frozen_stages={frozen_stages}: no block is left to train; decrease it')
            try:
                add_lora(self.net, blocks, **lora)
            except TypeError as error:
                raise UserError(f'lora: {error}; its keys are rank, alpha, parts and dropout') from error
        self.feature_cache: FeatureCache | None = None
        if feature_cache:
            if frozen_stages < len(self.net.blocks) or out_type == 'featmap':
                raise UserError(f'feature_cache requires a backbone that is frozen as a whole and returns vectors: set '
                                f"frozen_stages={len(self.net.blocks)} and out_type='cls_avg', or remove feature_cache")
            identity = (model, model_args, img_size, patch_size, window_size, sorted(self.global_blocks), prefix_tokens,
                        rope_in_windows, self.positions, out_indices, out_type, final_norm, __version__,
                        timm.__version__)
            self.feature_cache = FeatureCache(feature_cache, sum(self.out_channels), repr(identity))
        self.train()  # freezes stages now: optimizers and DDP read requires_grad before training starts

    def reset_parameters(self) -> None:
        """Initialize as timm does."""
        self.net.init_weights()
        for module in self.net.modules():
            if isinstance(module, LoRALinear):
                module.reset_update()

    def merge_lora(self) -> None:
        """Add the updates of ``lora`` to the weights, in place; the outputs stay the same."""
        merge_lora(self.net)

    def train(self, mode: bool = True) -> TimmViTDet:
        """Set the mode; frozen stages stay in eval mode and without gradients."""
        if self.feature_cache is not None:
            self.feature_cache.start_pass()
        super().train(mode)
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, in_channels, H, W) -> one map (B, C, H / patch, W / patch), or vector (B, C), per output."""
        if self.feature_cache is None or x.requires_grad or self._is_observed():
            return self._forward(x)
        vectors = self.feature_cache.features(self.check_images(x), self.state_dict,
                                              lambda images: torch.cat(self._forward(images), 1))
        return vectors.split(self.out_channels, 1)

    def _is_observed(self) -> bool:
        """Whether the computation itself is needed: for a graph, or for hooks of activation maps for example."""
        return is_exporting() or torch.compiler.is_compiling() or has_hooks(*self.modules())

    def _forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.run(self.embed(x))

    def embed(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, H / patch, W / patch, C): the patches, without positions."""
        net = self.net
        return net.patch_embed.norm(net.patch_embed.proj(self.check_images(x)).permute(0, 2, 3, 1))

    def run(self, embedded: Tensor, added: Sequence[Tensor] | None = None) -> tuple[Tensor, ...]:
        """See :meth:`Backbone.run`; the only stage is that of the first block."""
        tokens, hw = self._run_blocks(enter_stage(embedded, added, 0))
        return tuple(self._output(self.net.norm(each), hw) for each in tokens)

    def entries(self) -> list[tuple[int, int]]:
        """Return channels and stride of the patches."""
        return [(self.out_channels[-1], self.out_strides[-1])]

    def forward_tokens(self, x: Tensor) -> tuple[list[Tensor], tuple[int, int]]:
        """Return the tokens after each block of ``out_indices``, before the last norm.

        Args:
            x: (B, in_channels, H, W).

        Returns:
            Tensors (B, num_prefix + H / patch * W / patch, C), and the grid (H / patch, W / patch).
        """
        return self._run_blocks(self.embed(x))

    def _run_blocks(self, x: Tensor) -> tuple[list[Tensor], tuple[int, int]]:
        hw = (x.shape[1], x.shape[2])
        x = self._add_prefix_and_positions(x, hw)
        is_global = [i in self.global_blocks for i in range(self.num_layers)]
        ropes = block_ropes(self.net, hw, x.shape[0], is_global, self.window_size,
                            restart=self.rope_in_windows == 'restart')
        outs = []
        for i, (block, rope) in enumerate(zip(self.net.blocks, ropes, strict=True)):
            x = self.checkpointed(block, x, hw, rope, 0 if is_global[i] else self.window_size, self.num_prefix)
            if i in self.out_indices:
                outs.append(x)
        return outs, hw

    def _add_prefix_and_positions(self, x_bhwc: Tensor, hw: tuple[int, int]) -> Tensor:
        """(B, H, W, C) -> (B, prefix + H * W, C) with the absolute positions and the prefix tokens."""
        net, x = self.net, x_bhwc.flatten(1, 2)
        prefix = [token.expand(x.shape[0], -1, -1) for name in PREFIX_TOKENS
                  if (token := getattr(net, name, None)) is not None]
        if net.pos_embed is not None:
            rows, columns = grid_size(net)
            slots = net.pos_embed.shape[1] - rows * columns
            x = x + resize_positions(net.pos_embed[:, slots:], (rows, columns), hw, self.positions)
            if prefix and slots:
                prefix = [torch.cat(prefix, 1) + net.pos_embed[:, :slots]]
        x = net.pos_drop(torch.cat([*prefix, x], 1) if prefix else x)
        return net.norm_pre(x) if hasattr(net, 'norm_pre') else x

    def _output(self, x: Tensor, hw: tuple[int, int]) -> Tensor:
        patches = x[:, self.num_prefix:]
        if self.out_type == 'featmap':
            return patches.transpose(1, 2).unflatten(2, hw)
        parts = {'cls_token': [x[:, 0]], 'avg_featmap': [patches.mean(1)], 'cls_avg': [x[:, 0], patches.mean(1)]}
        return torch.cat(parts[self.out_type], 1)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        """Compute timm's buffers that are not stored, then load.

        They have no values after ``to_empty``, and with ``load_state_dict(..., assign=True)`` of a model on the meta
        device they are not replaced by those of the file.
        """
        state, _, metadata, *_ = args
        device = next(iter(state.values())).device if state and metadata.get('assign_to_params_buffers') else None
        for module in self.net.modules():
            if hasattr(module, 'init_non_persistent_buffers') and module is not self.net:
                for name, buffer in module.named_buffers(recurse=False):
                    if buffer.is_meta and device is not None:
                        setattr(module, name, torch.empty_like(buffer, device=device))
                module.init_non_persistent_buffers()
        super()._load_from_state_dict(*args, **kwargs)
        if self.feature_cache is not None:
            self.feature_cache.start_pass()

    @property
    def num_layers(self) -> int:
        """Number of blocks."""
        return len(self.net.blocks)

    def get_layer_id(self, name: str) -> int:
        """Return 0 for the embeddings, i + 1 for block i and depth + 1 for the last norm."""
        name = name.removeprefix('net.')
        if name.startswith('blocks.'):
            return int(name.split('.')[1]) + 1
        return self.num_layers + 1 if name.startswith('norm.') else 0

    @property
    def stem_weight(self) -> str:
        """Name of the weight with the input channels."""
        return 'net.patch_embed.proj.weight'

    def resize_weight(self, name: str, value: Tensor, own: Tensor) -> Tensor | None:
        """Resize the table of absolute positions and the patch kernel (FlexiViT, arXiv 2212.08013, section 3.4)."""
        if name == self.stem_weight and value.shape[:2] == own.shape[:2]:
            return resample_patch_embed(value.float(), list(own.shape[2:]))
        if name == 'net.pos_embed' and value.shape[2] == own.shape[2]:
            rows, columns = grid_size(self.net)
            slots = own.shape[1] - rows * columns
            side = round((value.shape[1] - slots) ** 0.5)
            if slots + side * side == value.shape[1]:
                grid = resize_positions(value[:, slots:], (side, side), (rows, columns), 'antialias')
                return torch.cat([value[:, :slots], grid], 1)
        return None

    def stages_to_freeze(self) -> list[nn.Module | nn.Parameter]:
        """Return the embeddings and the first ``frozen_stages`` blocks; with all blocks the last norm as well."""
        net = self.net
        names = ('patch_embed', 'pos_embed', *PREFIX_TOKENS, 'pos_drop', 'norm_pre', 'rope')
        parts = [getattr(net, name, None) for name in names]
        last = [net.norm] if self.frozen_stages >= len(net.blocks) else []
        return [*(part for part in parts if part is not None), *net.blocks[:self.frozen_stages], *last]


def _indexes(name: str, indexes: Sequence[int], depth: int) -> list[int]:
    if wrong := [i for i in indexes if not -depth <= i < depth]:
        raise UserError(f'{name}: {wrong} are outside a backbone of {depth} blocks')
    return [i % depth for i in indexes]
