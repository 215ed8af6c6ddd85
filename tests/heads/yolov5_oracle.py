"""Reference implementation of YOLOv5's loss: loops over images, anchors, objects and cells."""

import math

import torch
import torch.nn.functional as F


def ciou(a, b):
    """CIoU of two boxes (center x, center y, width, height)."""
    (ax, ay, aw, ah), (bx, by, bw, bh) = a, b
    left, right = max(ax - aw / 2, bx - bw / 2), min(ax + aw / 2, bx + bw / 2)
    top, bottom = max(ay - ah / 2, by - bh / 2), min(ay + ah / 2, by + bh / 2)
    intersection = max(right - left, 0) * max(bottom - top, 0)
    iou = intersection / (aw * ah + bw * bh - intersection + 1e-7)
    hull_w = max(ax + aw / 2, bx + bw / 2) - min(ax - aw / 2, bx - bw / 2)
    hull_h = max(ay + ah / 2, by + bh / 2) - min(ay - ah / 2, by - bh / 2)
    distance = ((ax - bx) ** 2 + (ay - by) ** 2) / (hull_w ** 2 + hull_h ** 2 + 1e-7)
    v = 4 / math.pi ** 2 * (math.atan(aw / ah) - math.atan(bw / bh)) ** 2
    return iou - distance - v * v / (v - iou + 1 + 1e-7)


def assignment(targets, anchors, shape, stride, max_ratio=4.0):
    """List of (image, anchor, row, column, label, box in cells relative to the cell), in the order of the reference."""
    rows, columns = shape
    found = []
    for side, (dx, dy) in enumerate([(0, 0), (-1, 0), (0, -1), (1, 0), (0, 1)]):
        for a, (aw, ah) in enumerate(anchors):
            for image, label, cx, cy, w, h in targets.tolist():
                if max(w / aw, aw / w, h / ah, ah / h) >= max_ratio:
                    continue
                x, y = cx / stride, cy / stride
                near = [True, x % 1 < 0.5 and x > 1, y % 1 < 0.5 and y > 1,
                        (columns - x) % 1 < 0.5 and columns - x > 1, (rows - y) % 1 < 0.5 and rows - y > 1][side]
                if near:
                    # half a cell further: a center exactly on an edge stays in its cell and counts twice
                    column, row = min(int(x + dx / 2), columns - 1), min(int(y + dy / 2), rows - 1)
                    found.append((int(image), a, row, column, int(label),
                                  (x - column, y - row, w / stride, h / stride)))
    return found


def loss_parts(preds, targets, anchors, strides, num_classes, smoothing=0.0, balance=(4.0, 1.0, 0.4)):
    """(box, objectness, class) before the gains."""
    box_loss = obj_loss = cls_loss = 0.0
    for pred, level_anchors, stride, weight in zip(preds, anchors, strides, balance):
        objectness = torch.zeros_like(pred[..., 4])
        ious, classes = [], []
        for image, a, row, column, label, box in assignment(targets, level_anchors, pred.shape[2:4], stride):
            logits = pred[image, a, row, column]
            s = [2 * value for value in logits[:4].sigmoid().tolist()]
            aw, ah = (side / stride for side in level_anchors[a])
            ious.append(ciou((s[0] - 0.5, s[1] - 0.5, s[2] ** 2 * aw, s[3] ** 2 * ah), box))
            objectness[image, a, row, column] = max(ious[-1], 0)
            target = torch.full((num_classes,), smoothing / 2)
            target[label] = 1 - smoothing / 2
            classes.append(F.binary_cross_entropy_with_logits(logits[5:], target).item())
        if ious:
            box_loss += sum(1 - iou for iou in ious) / len(ious)
            cls_loss += sum(classes) / len(classes) if num_classes > 1 else 0
        obj_loss += weight * F.binary_cross_entropy_with_logits(pred[..., 4], objectness).item()
    return box_loss, obj_loss, cls_loss
