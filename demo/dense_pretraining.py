"""Pre-training of a small ViTDet backbone by dense labeling, which replaces MAE weights in the demo.

Every token predicts, by one linear layer, the class of each of its pixels and the box of the object at its center.
This is much cheaper than training a detector, and every pixel contributes. The labels come from instance masks in COCO
format.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from pycocotools.coco import COCO
from torch import Tensor, nn

from vitdet_plugin.errors import UserError

_MAX_OBJECTS = 32


@dataclass
class DenseSet:
    """Images of one size in memory.

    Attributes:
        images: (N, S, S, 3) uint8, RGB, smaller images padded with zeros.
        objects: (N, S, S) uint8: 0 background, else 1 + index of the object on top.
        classes: (N, objects) uint8, 1 + class. boxes: (N, objects, 4) float32, x1 y1 x2 y2.
    """

    images: Tensor
    objects: Tensor
    classes: Tensor
    boxes: Tensor
    num_classes: int

    @classmethod
    def read(cls, ann_file: str | Path, image_folder: str | Path, size: int) -> DenseSet:
        """Read a set in COCO format whose images fit into ``size`` x ``size`` pixels."""
        coco = COCO(str(ann_file))
        label = {category: i for i, category in enumerate(sorted(coco.getCatIds()))}
        ids = coco.getImgIds()
        images = np.zeros((len(ids), size, size, 3), np.uint8)
        objects = np.zeros((len(ids), size, size), np.uint8)
        classes = np.zeros((len(ids), _MAX_OBJECTS), np.uint8)
        boxes = np.zeros((len(ids), _MAX_OBJECTS, 4), np.float32)
        for n, info in enumerate(coco.loadImgs(ids)):
            path = Path(image_folder) / info['file_name']
            image = cv2.imread(str(path))
            if image is None:
                raise UserError(f'{path} cannot be read as an image; delete its folder and write the set again')
            h, w = image.shape[:2]
            images[n, :h, :w] = image[..., ::-1]
            for k, annotation in enumerate(coco.imgToAnns[info['id']][:_MAX_OBJECTS]):
                objects[n, :h, :w][coco.annToMask(annotation) > 0] = k + 1
                classes[n, k] = 1 + label[annotation['category_id']]
                x, y, width, height = annotation['bbox']
                boxes[n, k] = x, y, x + width, y + height
        return cls(*(torch.from_numpy(array) for array in (images, objects, classes, boxes)), num_classes=len(label))

    def batch(self, count: int, crop: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Sample images, crops and flips: images (B, 3, c, c), classes (B, c, c), boxes (B, c, c, 4) of each pixel."""
        size = self.images.shape[1]
        chosen = torch.randint(len(self.images), (count,), generator=generator)
        corners = torch.randint(size - crop + 1, (count, 2), generator=generator)
        flips = torch.rand(count, generator=generator) < 0.5
        images, classes, boxes = [], [], []
        for n, (y, x), flip in zip(chosen.tolist(), corners.tolist(), flips.tolist(), strict=True):
            window = (slice(y, y + crop), slice(x, x + crop))
            image, index = self.images[n][window], self.objects[n][window].long()
            object_boxes = (self.boxes[n] - torch.tensor([x, y, x, y])).clamp(0, crop)
            if flip:
                image, index = image.flip(1), index.flip(1)
                object_boxes = object_boxes[:, [2, 1, 0, 3]] * torch.tensor([-1, 1, -1, 1]) + torch.tensor(
                    [crop, 0, crop, 0])
            images.append(image)
            classes.append(F.pad(self.classes[n], (1, 0))[index])
            boxes.append(F.pad(object_boxes, (0, 0, 1, 0))[index])
        return torch.stack(images).permute(0, 3, 1, 2), torch.stack(classes).long(), torch.stack(boxes)


class DenseHead(nn.Module):
    """LayerNorm and one linear layer: (B, C, H, W) tokens -> pixel class logits and the box at each token's center."""

    def __init__(self, dim: int, patch_size: int, num_classes: int) -> None:
        super().__init__()
        self.patch_size, self.outputs = patch_size, num_classes + 1
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.classes = nn.Linear(dim, patch_size**2 * self.outputs)
        self.boxes = nn.Linear(dim, 4)

    def loss(self, tokens: Tensor, classes: Tensor, boxes: Tensor) -> Tensor:
        """Cross entropy over the pixels plus L1 of the boxes' sides, in units of 4 patches from the token's center."""
        p = self.patch_size
        x = self.norm(tokens.permute(0, 2, 3, 1))
        logits = self.classes(x).unflatten(-1, (p, p, self.outputs)).transpose(2, 3).flatten(3, 4).flatten(1, 2)
        logits = logits.reshape(*classes.shape, self.outputs)
        loss = F.cross_entropy(logits.float().flatten(0, 2), classes.flatten())
        center = slice(p // 2, None, p)
        inside = classes[:, center, center] > 0
        positions = torch.arange(p // 2, classes.shape[1], p).float()
        origin = torch.stack(torch.meshgrid(positions, positions, indexing='xy') * 2, -1)
        target = (boxes[:, center, center] - origin) / (4 * p)
        error = (self.boxes(x).float()[inside] - target[inside]).abs().sum() / max(4 * int(inside.sum()), 1)
        return loss + 0.5 * error


def pretrain(backbone: nn.Module, data: DenseSet, *, steps: int, batch: int, crop: int, lr: float, seed: int = 0,
             bf16: bool = False, report: Callable[[str], None] = print) -> None:
    """Train the backbone in place: AdamW, 5 % warm-up, cosine decay."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    head = DenseHead(backbone.embed_dim, backbone.patch_size, data.num_classes)
    parameters = [*backbone.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW([dict(params=[p for p in parameters if p.ndim > 1], weight_decay=0.05),
                                   dict(params=[p for p in parameters if p.ndim <= 1], weight_decay=0.0)], lr=lr)
    warm_up = max(1, steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / warm_up) * (
        0.5 + 0.5 * math.cos(math.pi * min(1.0, step / steps))))
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375]))
    backbone.train()
    start, running = time.monotonic(), None
    for step in range(1, steps + 1):
        images, classes, boxes = data.batch(batch, crop, generator)
        with torch.autocast('cpu', torch.bfloat16, enabled=bf16):
            loss = head.loss(backbone((images - mean) / std)[-1], classes, boxes)
        if not torch.isfinite(loss):
            raise UserError(f'pre-training: the loss is {loss.item()} at step {step}; lower --lr')
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        running = loss.item() if running is None else 0.95 * running + 0.05 * loss.item()
        if step % 50 == 0 or step == steps:
            elapsed = time.monotonic() - start
            report(f'step {step}/{steps}  loss {running:.4f}  {elapsed:.0f} s, '
                   f'{elapsed / step * (steps - step):.0f} s to go')
