"""Anchors that fit the data: best possible recall, k-means, evolution (YOLOv5's AutoAnchor)."""

from __future__ import annotations

import numpy as np
import torch
from mmengine.dist import broadcast
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS

from vitdet_plugin.errors import UserError


def shape_match(sizes: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """How well each anchor fits each object, (n, A): the worse of the two side ratios, at most 1.

    ``sizes`` (n, 2) and ``anchors`` (A, 2) are widths and heights.
    """
    ratio = sizes[:, None] / anchors[None]
    return np.minimum(ratio, 1 / ratio).min(2)


def best_possible_recall(sizes: np.ndarray, anchors: np.ndarray, max_ratio: float = 4.0) -> float:
    """Share of the objects that at least one anchor takes."""
    return float((shape_match(sizes, anchors).max(1) > 1 / max_ratio).mean()) if len(sizes) else 1.0


def fitness(sizes: np.ndarray, anchors: np.ndarray, max_ratio: float = 4.0) -> float:
    """Mean match of the best anchor; an object that none takes counts 0."""
    best = shape_match(sizes, anchors).max(1)
    return float(np.where(best > 1 / max_ratio, best, 0).mean())


def fit_anchors(sizes: np.ndarray, count: int, max_ratio: float = 4.0, generations: int = 1000,
                seed: int = 0) -> np.ndarray:
    """(count, 2) anchors of ascending area.

    k-means of the sizes over their standard deviations, then ``generations`` random changes: each entry with
    probability 0.9 by a factor around 1 (normal, deviation 0.1 times a uniform number, kept within 0.3 ... 3); what
    raises the fitness stays.
    """
    from scipy.cluster.vq import kmeans
    rng = np.random.default_rng(seed)
    usable = sizes[(sizes >= 2).any(1)]
    deviation = usable.std(0).clip(1e-6)
    anchors = np.unique(usable, axis=0)
    if len(anchors) > count:
        anchors = kmeans(usable / deviation, count, iter=30, rng=rng)[0] * deviation
    if len(anchors) < count:  # fewer different sizes than anchors
        more = usable[rng.integers(len(usable), size=count - len(anchors))] * rng.uniform(0.7, 1.4, (1, 2))
        anchors = np.concatenate((anchors, more))
    anchors = anchors.clip(2)
    best = fitness(usable, anchors, max_ratio)
    for _ in range(generations):
        change = np.where(rng.random(anchors.shape) < 0.9, rng.random() * rng.standard_normal(anchors.shape) * 0.1, 0)
        candidate = (anchors * (1 + change).clip(0.3, 3)).clip(2)
        if (found := fitness(usable, candidate, max_ratio)) > best:
            anchors, best = candidate, found
    return anchors[np.argsort(anchors.prod(1))]


def object_sizes(dataset, img_size: int) -> np.ndarray:
    """(n, 2) widths and heights of all objects, each picture's longer side scaled to ``img_size``."""
    while not hasattr(dataset, 'load_data_list') and hasattr(dataset, 'dataset'):
        dataset = dataset.dataset
    if hasattr(dataset, 'datasets'):
        return np.concatenate([object_sizes(each, img_size) for each in dataset.datasets])
    sizes = []
    for i in range(len(dataset)):
        info = dataset.get_data_info(i)
        ratio = img_size / max(info['width'], info['height'])
        for instance in info['instances']:
            if not instance.get('ignore_flag'):
                x1, y1, x2, y2 = instance['bbox']
                sizes.append(((x2 - x1) * ratio, (y2 - y1) * ratio))
    return np.array(sizes, dtype=float).reshape(-1, 2)


@HOOKS.register_module()
class AutoAnchorHook(Hook):
    """Before training, prints the best possible recall of the head's anchors and replaces them where it is low.

    The head is ``model.bbox_head``; its anchors are saved in the checkpoint, so testing and resuming use the same ones.
    Those of weights that are loaded to start from (``load_from``) are checked like the config's.

    Args:
        img_size: side that training scales pictures to.
        threshold: anchors stay while the recall is above.
        generations: of the evolution.
    """

    def __init__(self, img_size: int, threshold: float = 0.98, generations: int = 1000) -> None:
        self.img_size, self.threshold, self.generations = img_size, threshold, generations

    def before_train(self, runner) -> None:
        """Check, and replace in place (the moving average starts as a copy); the first rank's are everyone's."""
        if runner._resume:
            return
        model = getattr(runner.model, 'module', runner.model)
        head = getattr(model, 'bbox_head', None)
        if not isinstance(getattr(head, 'anchors', None), torch.Tensor):
            raise UserError('AutoAnchorHook: the model has no bbox_head with anchors; use YOLOv5Head or leave it out')
        sizes = object_sizes(runner.train_dataloader.dataset, self.img_size)
        if not len(sizes):
            raise UserError('AutoAnchorHook: the training set has no boxes')
        old = head.anchors.cpu().numpy().reshape(-1, 2)
        recall = best_possible_recall(sizes, old, head.max_ratio)
        text = f'AutoAnchor: best possible recall {recall:.4f} of {len(sizes)} objects at {self.img_size} pixels'
        if recall > self.threshold:
            print_log(f'{text}; the anchors stay', 'current')
            return
        new = fit_anchors(sizes, len(old), head.max_ratio, self.generations)
        better = best_possible_recall(sizes, new, head.max_ratio)
        if better <= recall:
            print_log(f'{text}; no better anchors were found', 'current')
            return
        head.anchors.copy_(torch.from_numpy(new).view_as(head.anchors))
        broadcast(head.anchors)
        shown = ' '.join(f'{w:.0f},{h:.0f}' for w, h in new)
        print_log(f'{text}; with new anchors {better:.4f}: {shown}', 'current')
