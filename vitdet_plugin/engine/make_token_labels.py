"""Create token labels, the per-location class scores of a trained classifier (token labeling, arXiv:2104.10858)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import cv2
import torch
from torch import Tensor, nn

from vitdet_plugin.datasets.image_reader import decode
from vitdet_plugin.engine.load_model import LoadedModel
from vitdet_plugin.errors import UserError
from vitdet_plugin.heads.internimage_cls_head import InternImageClipHead
from vitdet_plugin.heads.volo_cls_head import VOLOClsHead
from vitdet_plugin.utils.output_files import write_atomically

_EXACT_HALF = 2048  # integers up to this value are exact in half precision


def dense_logits(model: nn.Module, inputs: Tensor) -> Tensor:
    """Compute class logits for every location of the last feature map.

    A head with average pooling is applied to each location separately; VOLO's auxiliary head predicts them directly.

    Args:
        model: mmpretrain's ``ImageClassifier``.
        inputs: Preprocessed images of shape ``(B, C, H, W)``.

    Returns:
        Logits of shape ``(B, num_classes, h, w)``.

    Raises:
        UserError: If the head cannot classify single locations.
    """
    features = model.extract_feat(inputs, stage='backbone')
    features = features if isinstance(features, (tuple, list)) else (features,)
    last, head = features[-1], model.head
    if isinstance(head, VOLOClsHead) and head.aux_head is not None:
        return head.both_logits(last)[1].permute(0, 3, 1, 2)
    if last.ndim != 4 or last.shape[2:].numel() == 1 or isinstance(head, (VOLOClsHead, InternImageClipHead)):
        raise UserError(f'{type(model.backbone).__name__} with {type(head).__name__} cannot classify single locations. '
                        'Use a classifier with average pooling over a feature map, or VOLO with dense=True.')
    batch, _, height, width = last.shape
    locations = (last.permute(0, 2, 3, 1).flatten(0, 2)[..., None, None],)
    logits = head(model.neck(locations) if model.with_neck else locations)
    return logits.unflatten(0, (batch, height, width)).permute(0, 3, 1, 2)


def make_token_labels(loaded: LoadedModel, images: Sequence[Path], out: Path, shape: tuple[int, int], top: int = 5,
                      batch_size: int = 16) -> Iterator[Path]:
    """Write token labels to ``out/<class folder>/<image>.pt`` for every image; existing files are kept.

    Args:
        loaded: A classifier.
        images: Image files.
        out: Output folder.
        shape: Height and width in pixels to which the whole image is resized.
        top: Number of classes stored per location, highest logits first.
        batch_size: Number of images per forward pass.

    Yields:
        Each file written. It holds a tensor of shape ``(2, top, h, w)`` with the logits and the class indices.

    Raises:
        UserError: If the model is not a classifier, an image cannot be read, or two images have the same label file.
    """
    if not loaded.is_classifier:
        raise UserError('the model is a detector. Use a classifier to create token labels.')
    targets = {image: out / image.parent.name / f'{image.stem}.pt' for image in images}
    if len(set(targets.values())) < len(targets):
        taken: dict[Path, Path] = {}
        first, second = next((taken[target], image) for image, target in targets.items()
                             if taken.setdefault(target, image) != image)
        raise UserError(f'{first} and {second} have the same label file {targets[first]}. Rename one of them.')
    for batch_files in _batches((pair for pair in targets.items() if not pair[1].is_file()), batch_size):
        inputs = [torch.from_numpy(_read(image, shape)).permute(2, 0, 1) for image, _ in batch_files]
        with torch.no_grad():
            batch = loaded.model.data_preprocessor(dict(inputs=inputs), False)['inputs']
            logits = dense_logits(loaded.model, batch).float().cpu()
        values, classes = logits.topk(min(top, logits.shape[1]), dim=1)
        labels = torch.stack([values, classes.float()], 1)
        for (_, target), each in zip(batch_files, labels if logits.shape[1] > _EXACT_HALF else labels.half()):
            write_atomically(target, partial(torch.save, each.clone()))
            yield target


def _batches(pairs: Iterable[tuple[Path, Path]], size: int) -> Iterator[list[tuple[Path, Path]]]:
    iterator = iter(pairs)
    while batch := list(islice(iterator, size)):
        yield batch


def _read(file: Path, shape: tuple[int, int]):
    image = decode(file)
    if image is None:
        raise UserError(f'{file} is not a readable image. Replace or remove it.')
    smaller = shape[0] * shape[1] < image.shape[0] * image.shape[1]
    return cv2.resize(image, shape[::-1], interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)
