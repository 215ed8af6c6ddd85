"""DINO in plain PyTorch, on the names of OpenGVLab's files (arXiv 2203.03605; 2010.04159 for the attention).

Independent of mmdet: only tensors, ``torch.nn.functional`` and a dict of weights.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

T = 'bbox_head.transformer.'
POINTS, EPS = 4, 1e-3


class Dino:
    """``Dino(weights)(maps, shapes, side)`` -> scores (B, queries, classes) and boxes (B, queries, 4), in [0, 1].

    Args:
        weights: Name -> tensor.
        heads: Number of attention heads.
        head_eps: Limit of the reference coordinates in the head.
    """

    def __init__(self, weights: dict[str, Tensor], heads: int = 8, head_eps: float = EPS) -> None:
        self.w, self.heads, self.head_eps = weights, heads, head_eps
        self.layers = 1 + max(int(name.split('.')[4]) for name in weights if name.startswith(f'{T}decoder.layers.'))

    def linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.w[f'{name}.weight'], self.w[f'{name}.bias'])

    def norm(self, name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.w[f'{name}.weight'], self.w[f'{name}.bias'])

    def mlp(self, name: str, x: Tensor, layers) -> Tensor:
        for i in layers[:-1]:
            x = self.linear(f'{name}.{i}', x).relu()
        return self.linear(f'{name}.{layers[-1]}', x)

    def neck(self, maps, groups: int) -> list[Tensor]:
        """1 x 1 convolutions to a common width, and a 3 x 3 convolution of stride 2 for the last level."""
        def conv(name, x, **options):
            x = F.conv2d(x, self.w[f'{name}.conv.weight'], **options)
            return F.group_norm(x, groups, self.w[f'{name}.gn.weight'], self.w[f'{name}.gn.bias'])

        return [*(conv(f'neck.convs.{i}', x) for i, x in enumerate(maps)),
                conv('neck.extra_convs.0', maps[-1], stride=2, padding=1)]

    def __call__(self, maps, shapes, side, groups: int) -> tuple[Tensor, Tensor]:
        levels = self.neck(maps, groups)
        filled = torch.zeros(len(shapes), *side, dtype=torch.bool)
        for each, (height, width) in zip(filled, shapes):
            each[:height, :width] = True
        valid = [F.interpolate(filled[None].float(), size=x.shape[2:])[0].bool() for x in levels]
        position = torch.cat([self.sine(each, x.shape[1] // 2) + self.w[f'{T}level_embeds'][i]
                              for i, (each, x) in enumerate(zip(valid, levels))], 1)
        self.sizes = [x.shape[2:] for x in levels]
        ratios = [(each[:, 0].float().mean(1), each[:, :, 0].float().mean(1)) for each in valid]
        self.ratios = torch.stack([torch.stack(each, 1) for each in ratios], 1)  # (B, levels, 2), of width and height
        self.valid = torch.cat([each.flatten(1) for each in valid], 1)
        memory = self.encode(torch.cat([x.flatten(2).transpose(1, 2) for x in levels], 1), position, valid)
        return self.decode(memory, *self.select(memory, valid))

    def sine(self, valid: Tensor, features: int) -> Tensor:
        """(B, H, W) -> (B, H * W, 2 * features): sines and cosines of positions among valid ones, temperature 20."""
        parts = []
        for axis in (1, 2):
            at = valid.float().cumsum(axis)
            total = at[:, -1:] if axis == 1 else at[:, :, -1:]
            parts.append(_waves(at / (total + 1e-6), features, 20))
        return torch.cat(parts, -1).flatten(1, 2)

    def sample(self, name: str, queries: Tensor, memory: Tensor, references: Tensor) -> Tensor:
        """Multi-scale deformable attention.

        Args:
            queries: (B, Q, C). memory: (B, N, C), all levels. references: (B, Q, levels, 2 or 4), relative to the
                padded map of each level.
        """
        batch, count, width = queries.shape
        levels, heads = len(self.sizes), self.heads
        values = self.linear(f'{name}.value_proj', memory).masked_fill(~self.valid[..., None], 0)
        offsets = self.linear(f'{name}.sampling_offsets', queries).view(batch, count, heads, levels, POINTS, 2)
        weights = self.linear(f'{name}.attention_weights', queries).view(batch, count, heads, -1).softmax(-1)
        weights = weights.view(batch, count, heads, levels, POINTS)
        result, start = 0, 0
        for level, (height, width_l) in enumerate(self.sizes):
            points = references[:, :, None, level, None, :2]
            if references.shape[-1] == 2:
                points = points + offsets[:, :, :, level] / torch.tensor([width_l, height])
            else:  # offsets in units of half the box, divided among the points
                points = points + offsets[:, :, :, level] * references[:, :, None, level, None, 2:] / 2 / POINTS
            part = values[:, start:start + height * width_l].view(batch, height, width_l, heads, -1)
            part = part.permute(0, 3, 4, 1, 2).flatten(0, 1)  # (B * heads, C / heads, H, W)
            grid = 2 * points.transpose(1, 2).flatten(0, 1) - 1  # (B * heads, Q, points, 2)
            found = F.grid_sample(part, grid, align_corners=False).unflatten(0, (batch, heads))
            result = result + torch.einsum('bhcqp,bqhp->bqhc', found, weights[:, :, :, level])
            start += height * width_l
        return self.linear(f'{name}.output_proj', result.flatten(2))

    def feed_forward(self, layer: str, norm: int, x: Tensor) -> Tensor:
        hidden = self.linear(f'{layer}.ffns.0.layers.0.0', x).relu()
        return self.norm(f'{layer}.norms.{norm}', x + self.linear(f'{layer}.ffns.0.layers.1', hidden))

    def encode(self, x: Tensor, position: Tensor, valid) -> Tensor:
        centers = []
        for level, (height, width) in enumerate(self.sizes):
            rows, columns = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing='ij')
            grid = torch.stack([columns / width, rows / height], -1).flatten(0, 1)
            centers.append(grid / self.ratios[:, level, None])  # relative to the valid part
        references = torch.cat(centers, 1)[:, :, None] * self.ratios[:, None]
        for i in range(self.layers):
            layer = f'{T}encoder.layers.{i}'
            x = self.norm(f'{layer}.norms.0', x + self.sample(f'{layer}.attentions.0', x + position, x, references))
            x = self.feed_forward(layer, 1, x)
        return x

    def select(self, memory: Tensor, valid) -> tuple[Tensor, Tensor]:
        """Two-stage, mixed query selection: learned contents, boxes of the positions with the highest score."""
        proposals = []
        for level, each in enumerate(valid):
            height, width = self.sizes[level]
            rows, columns = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing='ij')
            total = torch.stack([each[:, 0].sum(1), each[:, :, 0].sum(1)], 1)[:, None]  # width, height
            center = torch.stack([columns, rows], -1).flatten(0, 1) / total
            proposals.append(torch.cat([center, torch.full_like(center, 0.05 * 2 ** level)], -1))
        boxes = torch.cat(proposals, 1)
        usable = ((boxes > 0.01) & (boxes < 0.99)).all(-1) & self.valid
        logits = torch.where(usable[..., None], (boxes / (1 - boxes)).log(), torch.inf)
        x = self.norm(f'{T}enc_output_norm', self.linear(f'{T}enc_output', memory * usable[..., None]))
        scores = self.linear(f'bbox_head.cls_branches.{self.layers}', x).amax(-1)
        logits = logits + self.mlp(f'bbox_head.reg_branches.{self.layers}', x, (0, 2, 4))
        contents = self.w[f'{T}query_embed.weight']
        best = scores.topk(len(contents), 1).indices
        return contents.expand(len(memory), -1, -1), logits.gather(1, best[..., None].expand(-1, -1, 4)).sigmoid()

    def decode(self, memory: Tensor, x: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        for i in range(self.layers):
            layer = f'{T}decoder.layers.{i}'
            references = boxes[:, :, None] * torch.cat([self.ratios, self.ratios], -1)[:, None]
            features = x.shape[-1] // 2
            cx, cy, w, h = (_waves(each, features, 10000) for each in references[:, :, 0].unbind(-1))
            position = self.mlp(f'{T}decoder.ref_point_head', torch.cat([cy, cx, w, h], -1), (0, 2))
            x = self.norm(f'{layer}.norms.0', x + self.attend(f'{layer}.attentions.0.attn', x, position))
            sampled = self.sample(f'{layer}.attentions.1', x + position, memory, references)
            x = self.norm(f'{layer}.norms.1', x + sampled)
            x = self.feed_forward(layer, 2, x)
            last, boxes = boxes, (self.mlp(f'bbox_head.reg_branches.{i}', x, (0, 2, 4)) + _logit(boxes, EPS)).sigmoid()
        out = self.norm(f'{T}decoder.norm', x)
        found = (self.mlp(f'bbox_head.reg_branches.{i}', out, (0, 2, 4)) + _logit(last, self.head_eps)).sigmoid()
        return self.linear(f'bbox_head.cls_branches.{i}', out).sigmoid(), found

    def attend(self, name: str, x: Tensor, position: Tensor) -> Tensor:
        """Self-attention; positions are added to queries and keys. One matrix projects all three."""
        w, b = self.w[f'{name}.in_proj_weight'].chunk(3), self.w[f'{name}.in_proj_bias'].chunk(3)
        q, k, v = (F.linear(each, w[i], b[i]).unflatten(-1, (self.heads, -1)).transpose(1, 2)
                   for i, each in enumerate((x + position, x + position, x)))
        weights = (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1)
        return self.linear(f'{name}.out_proj', (weights @ v).transpose(1, 2).flatten(2))


def _waves(at: Tensor, features: int, temperature: float) -> Tensor:
    """Interleaved sine and cosine of ``2 pi at`` at ``features / 2`` frequencies."""
    exponents = 2 * torch.arange(features // 2) / features
    angles = 2 * math.pi * at[..., None] / temperature ** exponents
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(-2)


def _logit(x: Tensor, eps: float) -> Tensor:
    return (x.clamp(min=eps) / (1 - x).clamp(min=eps)).log()


def detections(scores: Tensor, boxes: Tensor, shape, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return boxes in pixels (x1, y1, x2, y2), scores and labels of one image's highest scores over all classes."""
    best = scores.flatten().topk(most)
    cx, cy, w, h = boxes[best.indices // scores.shape[1]].unbind(-1)
    height, width = shape
    corners = torch.stack([(cx - w / 2).clamp(0, 1) * width, (cy - h / 2).clamp(0, 1) * height,
                           (cx + w / 2).clamp(0, 1) * width, (cy + h / 2).clamp(0, 1) * height], -1)
    return corners, best.values, best.indices % scores.shape[1]
