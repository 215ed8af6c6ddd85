"""Token-label files out of a trained classifier: what it says about every place of a picture (arXiv 2104.10858)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import cv2
import torch
from torch import Tensor, nn

from vitdet_plugin.engine.load_model import LoadedModel
from vitdet_plugin.errors import UserError
from vitdet_plugin.heads.internimage_cls_head import InternImageClipHead
from vitdet_plugin.heads.volo_cls_head import VOLOClsHead

_EXACT_HALF = 2048  # whole numbers up to this are exact in half precision


def place_logits(model: nn.Module, inputs: Tensor) -> Tensor:
    """Logits (B, num_classes, h, w) of the places of the last map.

    A head that averages the map over places is asked about each place alone; VOLO's has a classifier of places.

    Raises:
        UserError: A head that does not look at places one by one.
    """
    features = model.extract_feat(inputs, stage='backbone')
    features = features if isinstance(features, (tuple, list)) else (features,)
    last, head = features[-1], model.head
    if isinstance(head, VOLOClsHead) and head.aux_head is not None:
        return head.both_logits(last)[1].permute(0, 3, 1, 2)
    if last.ndim != 4 or last.shape[2:].numel() == 1 or isinstance(head, (VOLOClsHead, InternImageClipHead)):
        raise UserError(f'{type(model.backbone).__name__} with {type(head).__name__} does not judge places one by one; '
                        'take a classifier that averages a map, or VOLO with dense=True')
    batch, _, rows, columns = last.shape
    alone = (last.permute(0, 2, 3, 1).flatten(0, 2)[..., None, None],)
    logits = head(model.neck(alone) if model.with_neck else alone)
    return logits.unflatten(0, (batch, rows, columns)).permute(0, 3, 1, 2)


def make_token_labels(loaded: LoadedModel, pictures: Sequence[Path], out: Path, shape: tuple[int, int], top: int = 5,
                      batch_size: int = 16) -> Iterator[Path]:
    """Write ``out/<class folder>/<picture>.pt`` for every picture, and yield each file; those that exist are left.

    Args:
        loaded: A classifier.
        pictures: Files.
        out: Folder for the labels.
        shape: Height and width to which the whole picture is resized.
        top: Classes kept a place.
        batch_size: Pictures at once.

    Raises:
        UserError: No classifier, pictures that cannot be read, or two whose labels would be one file.
    """
    if not loaded.is_classifier:
        raise UserError('token labels are made by a classifier; this is a detector')
    places = {picture: out / picture.parent.name / f'{picture.stem}.pt' for picture in pictures}
    if len(set(places.values())) < len(places):
        taken: dict[Path, Path] = {}
        first, second = next((taken[place], picture) for picture, place in places.items()
                             if taken.setdefault(place, picture) != picture)
        raise UserError(f'{first} and {second} would have one label file; give them different names')
    for group in _groups((pair for pair in places.items() if not pair[1].is_file()), batch_size):
        inputs = [torch.from_numpy(_read(picture, shape)).permute(2, 0, 1) for picture, _ in group]
        with torch.no_grad():
            batch = loaded.model.data_preprocessor(dict(inputs=inputs), False)['inputs']
            logits = place_logits(loaded.model, batch).float().cpu()
        values, classes = logits.topk(min(top, logits.shape[1]), dim=1)
        labels = torch.stack([values, classes.float()], 1)
        for (_, place), each in zip(group, labels if logits.shape[1] > _EXACT_HALF else labels.half()):
            place.parent.mkdir(parents=True, exist_ok=True)
            unfinished = place.with_suffix('.part')
            torch.save(each.clone(), unfinished)
            unfinished.replace(place)
            yield place


def _groups(pairs: Iterable[tuple[Path, Path]], size: int) -> Iterator[list[tuple[Path, Path]]]:
    iterator = iter(pairs)
    while group := list(islice(iterator, size)):
        yield group


def _read(picture: Path, shape: tuple[int, int]):
    image = cv2.imread(str(picture), cv2.IMREAD_COLOR)
    if image is None:
        raise UserError(f'{picture} cannot be read as a picture')
    smaller = shape[0] * shape[1] < image.shape[0] * image.shape[1]
    return cv2.resize(image, shape[::-1], interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)
