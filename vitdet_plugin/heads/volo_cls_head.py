"""VOLO's classification head: class attention, final norm, classifiers of the class token and of every token."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS, WEIGHT_INITIALIZERS
from timm.layers import Mlp
from torch import Tensor, nn

from vitdet_plugin.backbones.volo import MIX_BOX, NORM_EPS, paste_reversed
from vitdet_plugin.errors import UserError
from vitdet_plugin.heads.cls_head import ClassifierHead, targets_of
from vitdet_plugin.utils.arguments import check_heads, check_range, check_whole

TOKEN_TARGET = 'gt_token_score'  # field of data samples: soft labels (num_classes, h, w)
LOADED = TOKEN_CLASSES, TOKEN_LOGITS, CLS_LOGITS = 'gt_token_classes', 'gt_token_logits', 'gt_cls_logits'  # from files


class ClassAttention(nn.Module):
    """Attention of the first token over all tokens (CaiT, arXiv 2103.17239, section 4)."""

    def __init__(self, dim: int, num_heads: int, *, qkv_bias: bool, scale: float | None) -> None:
        super().__init__()
        self.num_heads, self.scale = num_heads, scale
        self.kv = nn.Linear(dim, 2 * dim, bias=qkv_bias)
        self.q = nn.Linear(dim, dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C), class token first -> (B, 1, C)."""
        k, v = self.kv(x).unflatten(-1, (2, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        q = self.q(x[:, :1]).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (B, heads, 1, C / heads)
        out = F.scaled_dot_product_attention(q, k, v, scale=self.scale)
        return self.proj(out.transpose(1, 2).flatten(2))


class ClassBlock(nn.Module):
    """Pre-norm block that changes the class token only."""

    def __init__(self, dim: int, num_heads: int, *, mlp_ratio: float, qkv_bias: bool, scale: float | None) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.attn = ClassAttention(dim, num_heads, qkv_bias=qkv_bias, scale=scale)
        self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        cls = x[:, :1] + self.attn(self.norm1(x))
        cls = cls + self.mlp(self.norm2(cls))
        return torch.cat([cls, x[:, 1:]], 1)


@MODELS.register_module()
class VOLOClsHead(ClassifierHead):
    """Class-attention blocks, LayerNorm, a classifier of the class token and, with ``dense``, one of all tokens.

    With ``dense`` the logits are ``fc(cls) + 0.5 * max over tokens of aux_head``, the loss is
    ``CE(cls) + aux_weight * CE(aux)`` (token labeling, arXiv 2104.10858, equation 3). Targets of the tokens are
    ``gt_token_score`` of the data samples, (num_classes, h, w) on the grid of the last map, or the fields of
    ``LoadTokenLabels`` (which also give the class token's target), or else the label of the image.
    If the data samples have a ``mix_box`` (``MixTokenDataPreprocessor``), the logits of the tokens are exchanged back,
    and the class token's target is mixed by the share of the box.

    Args:
        num_classes: Number of classes.
        in_channels: Channels of the last map.
        num_heads, mlp_ratio, qkv_bias, qk_scale: Parameters of the class-attention blocks.
        depth: Number of these blocks; with 0 the first token is used instead of a class token.
        pooling: 'token', or 'avg' for the average of all tokens (the official ``return_mean``).
        dense: See above; the published weights need it. Default: plain classification.
        aux_weight: Weight of the tokens' loss.
        token_smoothing: Label smoothing of the targets from ``LoadTokenLabels``.
        loss: Config of a loss over (logits, targets); default cross-entropy.
        init_cfg: ``dict(type='Pretrained', checkpoint=...)`` loads the head's part of an official checkpoint, the
            classifiers only where the number of classes is the same.
    """

    def __init__(self, num_classes: int, in_channels: int = 384, num_heads: int = 12, *, mlp_ratio: float = 3.0,
                 depth: int = 2, qkv_bias: bool = False, qk_scale: float | None = None, pooling: str = 'token',
                 dense: bool = False, aux_weight: float = 0.5, token_smoothing: float = 0.0, loss: dict | None = None,
                 init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(num_classes, loss, init_cfg)
        if pooling not in ('token', 'avg'):
            raise UserError(f"pooling={pooling!r} is unknown; choose 'token' or 'avg'")
        check_heads(num_heads, in_channels=in_channels)
        check_whole(0, depth=depth)
        check_range(0, inf, mlp_ratio=mlp_ratio, aux_weight=aux_weight)
        check_range(0, 1, token_smoothing=token_smoothing)
        self.pooling, self.aux_weight, self.token_smoothing = pooling, aux_weight, token_smoothing
        self.cls_token = nn.Parameter(torch.zeros(1, 1, in_channels)) if depth else None
        self.post_network = nn.ModuleList(
            ClassBlock(in_channels, num_heads, mlp_ratio=mlp_ratio, qkv_bias=qkv_bias, scale=qk_scale)
            for _ in range(depth))
        self.norm = nn.LayerNorm(in_channels, eps=NORM_EPS)
        self.fc = nn.Linear(in_channels, num_classes)
        self.aux_head = nn.Linear(in_channels, num_classes) if dense else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Truncated normal (0.02) for linear weights and the class token, zero biases."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.LayerNorm):
                module.reset_parameters()
        if self.cls_token is not None:
            nn.init.trunc_normal_(self.cls_token, std=0.02)

    def init_weights(self) -> None:
        """Initialize the parameters, then load the checkpoint of ``init_cfg`` if there is one."""
        self.reset_parameters()
        for cfg in [self.init_cfg] if isinstance(self.init_cfg, dict) else self.init_cfg or []:
            if cfg['type'] == 'Pretrained':
                cfg = {**cfg, 'type': 'OfficialHead', 'classifiers': ('fc', 'aux_head')}
            WEIGHT_INITIALIZERS.build(cfg)(self)
        self._is_init = True

    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        """(..., (B, in_channels, h, w)) -> (B, num_classes)."""
        cls_logits, aux_logits = self.both_logits(feats[-1])
        return cls_logits if aux_logits is None else cls_logits + 0.5 * aux_logits.flatten(1, 2).amax(1)

    def both_logits(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """(B, in_channels, h, w) -> logits of the class token (B, K), and of all tokens (B, h, w, K) or None."""
        tokens = x.flatten(2).transpose(1, 2)
        if self.cls_token is not None:
            tokens = torch.cat([self.cls_token.to(tokens.dtype).expand(x.shape[0], -1, -1), tokens], 1)
        for block in self.post_network:
            tokens = block(tokens)
        tokens = self.norm(tokens)
        if self.pooling == 'avg':
            return self.fc(tokens.mean(1)), None
        cls_logits = self.fc(tokens[:, 0])
        if self.aux_head is None:
            return cls_logits, None
        patches = tokens[:, 1:] if self.cls_token is None else tokens[:, 1:].unflatten(1, x.shape[2:])
        return cls_logits, self.aux_head(patches if patches.ndim == 4 else patches[:, None])

    def loss(self, feats: Sequence[Tensor], data_samples: Sequence[Any], **kwargs: Any) -> dict[str, Tensor]:
        """Compute ``loss`` of the class token and, with ``dense``, ``loss_aux`` of all tokens, weighted.

        Args:
            feats: Maps of the backbone; the last one (B, in_channels, h, w) is used.
            data_samples: One for each image; a ``mix_box`` is the same in all of them.
        """
        x, box = feats[-1], data_samples[0].get(MIX_BOX)
        cls_logits, aux_logits = self.both_logits(x)
        maps = None
        if TOKEN_LOGITS in data_samples[0]:
            target, maps = self.token_targets(data_samples, x.device)
        else:
            target = targets_of(data_samples)
            if TOKEN_TARGET in data_samples[0]:
                maps = torch.stack([sample.get(TOKEN_TARGET) for sample in data_samples]).to(x.device)
        cls_target = target
        if box is not None:
            top, bottom, left, right = box
            share = (bottom - top) * (right - left) / (x.shape[2] * x.shape[3])
            scores = target if target.ndim == 2 else F.one_hot(target, self.num_classes).to(cls_logits.dtype)
            cls_target = (1 - share) * scores + share * scores.flip(0)
            if aux_logits is not None:
                aux_logits = paste_reversed(aux_logits, top, bottom, left, right)
        losses = {'loss': self.loss_of_logits(cls_logits, cls_target)}
        if aux_logits is not None:
            grid = aux_logits.shape[1:3]
            if maps is None:
                target = target.repeat_interleave(grid.numel(), 0)
            else:
                if maps.shape[2:] != grid:
                    raise UserError(f'token labels have a grid of {tuple(maps.shape[2:])}, but the last map has '
                                    f'{tuple(grid)} tokens; set LoadTokenLabels.grid to that')
                target = maps.permute(0, 2, 3, 1).flatten(0, 2)
            losses['loss_aux'] = self.aux_weight * self.loss_of_logits(aux_logits.flatten(0, 2), target)
        return losses

    def token_targets(self, data_samples: Sequence[Any], device: torch.device) -> tuple[Tensor, Tensor]:
        """Compute probabilities from the logits of ``LoadTokenLabels``: softmax over all classes, smoothed.

        Returns:
            (B, num_classes) of the whole images and (B, num_classes, h, w) of the tokens.
        """
        rows = []
        for sample in data_samples:
            classes, patches, whole = (sample.get(name).to(device) for name in LOADED)
            if (highest := int(classes[-1])) >= self.num_classes:
                raise UserError(f'token labels have class {highest}, but the head has num_classes={self.num_classes}; '
                                f'set it to at least {highest + 1}')
            logits = patches.new_zeros(self.num_classes, 1 + patches[0].numel())
            logits[classes] = torch.cat([whole[:, None], patches.flatten(1)], 1)
            rows.append(logits)
        scores = torch.stack(rows).softmax(1) * (1 - self.token_smoothing) + self.token_smoothing / self.num_classes
        return scores[..., 0], scores[..., 1:].unflatten(2, data_samples[0].get(TOKEN_LOGITS).shape[1:])
