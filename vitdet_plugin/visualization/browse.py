"""Figures of dataset samples after the pipeline of a config, with labels, boxes and masks."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from vitdet_plugin.config.registry import as_list
from vitdet_plugin.datasets.image_reader import decode
from vitdet_plugin.engine.load_model import build_dataset
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.class_names import name_of_label
from vitdet_plugin.utils.paths import check_inputs_are_kept
from vitdet_plugin.utils.text import counted
from vitdet_plugin.utils.track import track
from vitdet_plugin.visualization.draw import Objects, draw_objects, write_figure
from vitdet_plugin.visualization.image_hook import annotated_objects
from vitdet_plugin.visualization.sheet import contact_sheet


def browse(cfg: Config, out: str | Path, count: int = 12, repeats: int = 3, split: str = 'train') -> list[Path]:
    """Draw samples of a split.

    For detection, one figure per sample shows the annotated original image and the results of ``repeats`` passes
    through the pipeline. For classification, one figure shows these images for all samples. If the config mixes images
    (Mixup, CutMix), a second figure shows a mixed batch with its soft labels.

    Args:
        cfg: The config.
        out: Output folder.
        count: Number of samples, evenly spaced over the split.
        repeats: Number of passes of each sample through the pipeline, with different random augmentations.
        split: ``'train'``, ``'val'`` or ``'test'``.

    Returns:
        The files written.

    Raises:
        UserError: If the split does not exist or is empty, the pipeline returns no samples, or a figure would replace
            an image.
    """
    for name, value in (('count', count), ('repeats', repeats)):
        if value < 1:
            raise UserError(f'--{name} {value}: give a number of at least 1')
    dataset, out = build_dataset(cfg, split), Path(out)
    classes = list(dataset.metainfo.get('classes') or ())
    count = min(count, len(dataset))
    indices = np.linspace(0, len(dataset) - 1, count).round().astype(int)
    if hasattr(dataset, 'get_data_info'):
        written = [out / f'{name}.jpg' for name in ('samples', 'batch', *(f'{index:06}' for index in indices))]
        check_inputs_are_kept(f'--out {out}', written, (
            str(dataset.get_data_info(index).get('img_path')) for index in range(len(dataset))))
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    for index in track(indices.tolist(), count, 'samples'):
        info = dataset.get_data_info(index) if hasattr(dataset, 'get_data_info') else {}
        rows.append((index, info, [_sample(dataset, index) for _ in range(repeats)]))
    if not rows:
        raise UserError(f'{split}_dataloader: the dataset has no images. Check its paths.')
    if 'gt_instances' in rows[0][2][0]['data_samples']:
        return [_draw_detection(out, *row, classes) for row in rows]
    return _draw_classification(cfg, out, rows, classes)


def _sample(dataset: Any, index: int) -> dict:
    """Load a sample; if the pipeline returns None, the following samples are tried."""
    for offset in range(100):
        sample = dataset[(index + offset) % len(dataset)]
        if sample is not None:
            return sample
    raise UserError(f'the pipeline returned None for 100 consecutive samples, starting at index {index}. Check its '
                    'filters.')


def objects_of_sample(data_sample: Any, shape: tuple[int, int]) -> Objects:
    """Convert ``gt_instances`` of a data sample of mmdet for drawing.

    Args:
        data_sample: A ``DetDataSample``.
        shape: Height and width to which masks are cropped or padded.
    """
    found = data_sample.gt_instances
    if 'bboxes' not in found:  # a test pipeline without LoadAnnotations
        return Objects(np.zeros((0, 4)), np.zeros(0, int))
    boxes, masks = getattr(found.bboxes, 'tensor', found.bboxes), found.get('masks')
    if masks is not None:
        masks = masks.to_ndarray() if hasattr(masks, 'to_ndarray') else np.asarray(masks)
        fitted = np.zeros((len(masks), *shape), bool)
        if len(masks):
            fitted[:, :masks.shape[1], :masks.shape[2]] = masks[:, :shape[0], :shape[1]]
        masks = fitted
    return Objects(np.asarray(boxes, float).reshape(-1, 4), np.asarray(found.labels, int), None, masks)


def _draw_detection(out: Path, index: int, info: dict, samples: Sequence[dict], classes: Sequence[str]) -> Path:
    images, captions = [], []
    original = decode(str(info.get('img_path')))
    if original is not None:
        truth = annotated_objects(info.get('instances', []), original.shape[:2])
        images.append(draw_objects(np.ascontiguousarray(original[..., ::-1]), truth, classes))
        captions.append(f'{Path(info["img_path"]).name}\n{original.shape[1]}x{original.shape[0]}, '
                        + counted(len(truth), 'object'))
    for sample in samples:
        image = _rgb(sample['inputs'])
        objects = objects_of_sample(sample['data_samples'], image.shape[:2])
        images.append(draw_objects(image, objects, classes))
        captions.append(f'after the pipeline\n{image.shape[1]}x{image.shape[0]}, {counted(len(objects), "object")}')
    return _write(out / f'{index:06}.jpg', contact_sheet(images, captions, len(images), 480))


def _draw_classification(cfg: Config, out: Path, rows: list, classes: Sequence[str]) -> list[Path]:
    images, captions = [], []
    for index, info, samples in rows:
        name = _label_text(samples[0]['data_samples'], classes)
        original = decode(str(info.get('img_path')))
        if original is not None:
            images.append(original[..., ::-1])
            captions.append(f'{name}\n{index}: {Path(info["img_path"]).name}')
        images += [_rgb(sample['inputs']) for sample in samples]
        captions += [f'{name}\n{sample["inputs"].shape[2]}x{sample["inputs"].shape[1]}' for sample in samples]
    per_row = len(images) // len(rows)
    columns = per_row * max(1, 8 // per_row)
    written = [_write(out / 'samples.jpg', contact_sheet(images, captions, columns, 180))]
    batch = [sample for _, _, samples in rows for sample in samples]
    mixed = mixed_batch(cfg, batch[:2 * (len(batch) // 2)])
    if mixed is not None:
        images, targets = mixed
        captions = [_label_text(target, classes) for target in targets]
        written.append(_write(out / 'batch.jpg', contact_sheet(images, captions, 6, 200)))
    return written


def mixed_batch(cfg: Config, samples: Sequence[dict]) -> tuple[list[np.ndarray], Sequence[Any]] | None:
    """Mix a batch with the batch augmentations (Mixup, CutMix) of the config.

    The batch is always mixed, also if the config mixes only a fraction of the batches (``probs``).

    Args:
        cfg: A classification config.
        samples: Samples of the training pipeline.

    Returns:
        Denormalized images of shape ``(H, W, 3)``, uint8, RGB, and their data samples; None if the config has no batch
        augmentations.
    """
    from mmengine.dataset import pseudo_collate
    preprocessor = copy.deepcopy(cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor') or {})
    mixing = dict(cfg.model.get('train_cfg') or {})
    if not mixing.get('augments'):
        mixing = dict(preprocessor.get('batch_augments') or {})
    augments, probs = mixing.get('augments'), mixing.get('probs')
    if not augments or not samples:
        return None
    if probs is not None:
        probs = np.atleast_1d(np.asarray(probs, float))
        if not probs.sum():
            return None
        probs = (probs / probs.sum() * (1 - 1e-9)).tolist()  # rounding must not make the sum exceed 1
    preprocessor.setdefault('num_classes', (cfg.model.get('head') or {}).get('num_classes'))
    preprocessor.update(type='mmpretrain.ClsDataPreprocessor', to_onehot=True,
                        batch_augments=dict(augments=as_list(augments), probs=probs))
    init_default_scope(cfg.get('default_scope') or 'mmpretrain')
    module = MODELS.build(preprocessor)
    batch = module(pseudo_collate(samples), True)
    values = batch['inputs']
    if getattr(module, '_enable_normalize', False):
        values = values * module.std + module.mean
    values = values.clamp(0, 255).round().byte().permute(0, 2, 3, 1).numpy()
    if not module.to_rgb:
        values = values[..., ::-1]
    return [np.ascontiguousarray(each) for each in values], batch['data_samples']


def _label_text(sample: Any, classes: Sequence[str]) -> str:
    if 'gt_score' in sample:
        score = sample.gt_score
        labels = torch.nonzero(score > 0.005).flatten().tolist()
        parts = [(float(score[label]), name_of_label(label, classes)) for label in labels]
        return '\n'.join(f'{share:.2f} {text}' for share, text in sorted(parts, reverse=True)[:2])
    labels = sample.get('gt_label')
    return 'no label' if labels is None else ', '.join(name_of_label(int(label), classes) for label in labels.flatten())


def _rgb(inputs: torch.Tensor) -> np.ndarray:
    """Convert an image of shape ``(3, H, W)`` in BGR order, as loaded by pipelines, to ``(H, W, 3)``, uint8, RGB."""
    values = inputs if inputs.dtype == torch.uint8 else inputs.clamp(0, 255).round().byte()
    return np.ascontiguousarray(values.permute(1, 2, 0).numpy()[..., ::-1])


def _write(path: Path, figure: np.ndarray) -> Path:
    write_figure(path, figure)
    return path

