"""Anchors fitted to the training set: best possible recall, k-means, genetic evolution (YOLOv5's AutoAnchor)."""

from __future__ import annotations

import numpy as np
import torch
from mmengine.dist import broadcast
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS

from vitdet_plugin.errors import UserError


def shape_match(sizes: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """Compute how well each anchor fits each object.

    Args:
        sizes: Widths and heights of the objects in pixels, of shape ``(N, 2)``.
        anchors: Widths and heights of the anchors in pixels, of shape ``(A, 2)``.

    Returns:
        The smaller of the width ratio and the height ratio, each at most 1, of shape ``(N, A)``.
    """
    ratio = sizes[:, None] / anchors[None]
    return np.minimum(ratio, 1 / ratio).min(2)


def best_possible_recall(sizes: np.ndarray, anchors: np.ndarray, max_ratio: float = 4.0) -> float:
    """Return the fraction of objects that at least one anchor matches within ``max_ratio``."""
    return float((shape_match(sizes, anchors).max(1) > 1 / max_ratio).mean()) if len(sizes) else 1.0


def fitness(sizes: np.ndarray, anchors: np.ndarray, max_ratio: float = 4.0) -> float:
    """Return the mean :func:`shape_match` of each object's best anchor; an object without a match counts as 0."""
    best = shape_match(sizes, anchors).max(1)
    return float(np.where(best > 1 / max_ratio, best, 0).mean())


def fit_anchors(sizes: np.ndarray, count: int, max_ratio: float = 4.0, generations: int = 1000,
                seed: int = 0) -> np.ndarray:
    """Fit anchors to object sizes with k-means and random mutation.

    k-means runs on the sizes divided by their standard deviation. Then each generation multiplies each entry, with
    probability 0.9, by a factor ``1 + 0.1 * u * z`` (``u`` uniform, ``z`` standard normal) clipped to [0.3, 3], and
    keeps the result if the fitness increases.

    Args:
        sizes: Widths and heights of the objects in pixels, of shape ``(N, 2)``.
        count: Number of anchors.
        max_ratio: Largest side ratio at which an anchor matches an object.
        generations: Number of mutations to try.
        seed: Seed of the random generator.

    Returns:
        Anchors in order of increasing area, of shape ``(count, 2)``.
    """
    from scipy.cluster.vq import kmeans
    rng = np.random.default_rng(seed)
    usable = sizes[(sizes >= 2).any(1)]
    deviation = usable.std(0).clip(1e-6)
    anchors = np.unique(usable, axis=0)
    if len(anchors) > count:
        anchors = kmeans(usable / deviation, count, iter=30, rng=rng)[0] * deviation
    if len(anchors) < count:  # fewer distinct sizes than anchors
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
    """Collect the sizes of all objects of a dataset.

    Args:
        dataset: A dataset of mmdet, possibly wrapped or concatenated.
        img_size: Length in pixels to which the longer side of each image is scaled.

    Returns:
        Widths and heights in pixels of the scaled images, of shape ``(N, 2)``.
    """
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
    """Check the anchors of ``model.bbox_head`` before training and replace them if their recall is low.

    The anchors are saved in the checkpoint, so that testing and resuming use the same ones. Anchors loaded with
    ``load_from`` are checked like those of the config.

    Args:
        img_size: Length in pixels to which training scales the longer side of an image.
        threshold: Keep the anchors if the best possible recall is higher than this value.
        generations: Number of mutations to try, see :func:`fit_anchors`.

    Raises:
        UserError: If the head has no anchors or the training set has no boxes.
    """

    def __init__(self, img_size: int, threshold: float = 0.98, generations: int = 1000) -> None:
        self.img_size, self.threshold, self.generations = img_size, threshold, generations

    def before_train(self, runner) -> None:
        """Check the anchors and replace them in place on all ranks, before the weight average is initialized."""
        if runner._resume:
            return
        model = getattr(runner.model, 'module', runner.model)
        head = getattr(model, 'bbox_head', None)
        if not isinstance(getattr(head, 'anchors', None), torch.Tensor):
            raise UserError('AutoAnchorHook: model.bbox_head has no anchors. Use YOLOv5Head or remove the hook.')
        sizes = object_sizes(runner.train_dataloader.dataset, self.img_size)
        if not len(sizes):
            raise UserError('AutoAnchorHook: the training set has no boxes. Check ann_file of train_dataloader.')
        old = head.anchors.cpu().numpy().reshape(-1, 2)
        recall = best_possible_recall(sizes, old, head.max_ratio)
        text = f'AutoAnchor: best possible recall {recall:.4f} for {len(sizes)} objects at {self.img_size} pixels'
        if recall > self.threshold:
            print_log(f'{text}; keeping the anchors', 'current')
            return
        new = fit_anchors(sizes, len(old), head.max_ratio, self.generations)
        better = best_possible_recall(sizes, new, head.max_ratio)
        if better <= recall:
            print_log(f'{text}; no better anchors were found', 'current')
            return
        head.anchors.copy_(torch.from_numpy(new).view_as(head.anchors))
        broadcast(head.anchors)
        shown = ' '.join(f'{w:.0f},{h:.0f}' for w, h in new)
        print_log(f'{text}; {better:.4f} with new anchors: {shown}', 'current')
