"""Exported models: preparation of images, batches, and results in pixels of the images."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .backends import SUFFIXES, Session, open_session
from .batches import in_batches
from .errors import ModelError
from .images import read_image, to_gray
from .libraries import check_libraries
from .masks import Rle, fit_mask, paste_mask
from .pipeline import UnknownStep, translate
from .prefetch import prefetch
from .preprocess import Prepared, Step, prepare
from .results import Classification, Detections
from .sources import Source, find_sources

_MASK_THRESHOLD = 0.5  # of files written before the threshold was stored
_READ_AHEAD = 4  # images that are prepared while a batch is predicted, at least


def load(path: str | os.PathLike, *, threads: int | None = None, providers: Sequence[str] | None = None,
         half: bool = False, library: str | None = None) -> Model:
    """Load a file of ``vitdet export``.

    Args:
        path: ``.onnx`` (requires ONNX Runtime) or OpenVINO's ``.xml``.
        threads: Threads of the processor; None leaves it to the library.
        providers: Execution providers of ONNX Runtime, by default CUDA if it is available, and the processor; or one
            device of OpenVINO, such as ``['GPU']``.
        half: Whether OpenVINO may compute in 16 bits where the processor has instructions for them.
        library: ``'openvino'`` to run an ONNX file by OpenVINO.

    Raises:
        ModelError: The file cannot be used, or a package is missing.
    """
    path = Path(path).expanduser()
    if path.suffix.lower() not in SUFFIXES:
        raise ModelError(f'{path} is not a model file; give a file of "vitdet export" ({" or ".join(SUFFIXES)})')
    check_libraries()
    return Model(path, open_session(path, threads, providers, half, library))


@dataclass
class Found:
    """What a model finds in one input, in pixels of the image, highest score first.

    Attributes:
        boxes: (N, 4) float32, x1, y1, x2, y2.
        scores: (N,) float32.
        labels: (N,) int64.
        rles: N masks; None for a model without masks.
        grids: (N, m, m) probabilities over the boxes, if the file holds these.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    rles: list[Rle] | None = None
    grids: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.scores)


@dataclass
class _Item:
    """An image of a stream, or the reason why there is none."""

    source: Source
    prepared: Prepared | None = None
    image: np.ndarray | None = None
    fault: ModelError | None = None


class Model:
    """A detector or classifier in a file; see :func:`load`.

    Attributes:
        path: The file.
        classes: Names of the classes; empty if unknown.
        is_classifier: Whether it predicts classes of images, not objects.
        shape: Height and width of the input in pixels; for a file of dynamic size, those of the example.
        has_dynamic_size: Whether the file takes images of any size.
        batch: Images of a batch; None for any number.
        channels: Channels of the input.
        steps: How images are prepared; see :mod:`.preprocess`.
    """

    def __init__(self, path: Path, session: Session) -> None:
        self.path, self.session = path, session
        about = {key: _value(text) for key, text in session.metadata.items()}
        self.is_classifier = session.outputs == ('scores',)
        if not {'classes', 'shape'} <= set(about) or not self.is_classifier and not {
                'boxes', 'scores', 'labels'} <= set(session.outputs):
            raise ModelError(f'{path} is neither a detector nor a classifier written by "vitdet export" (without '
                             '--features); export it again')
        self.classes: list[str] = list(about['classes'])
        self.batch, channels, *sides = session.shape
        self.has_dynamic_size = None in sides
        self.shape: tuple[int, int] = tuple(about['shape']) if self.has_dynamic_size else tuple(sides)  # type: ignore
        self.channels = channels or 3
        self.steps = self._find_steps(about)
        self._padding = np.asarray(about.get('padding') or [0.0] * self.channels, np.float32)
        self._threshold = float(about.get('mask_threshold', _MASK_THRESHOLD))

    def __repr__(self) -> str:
        sides = 'any size' if self.has_dynamic_size else f'{self.shape[0]} x {self.shape[1]}'
        return (f'{"classifier" if self.is_classifier else "detector"} {self.path}, {len(self.classes)} classes, '
                f'{"any" if self.batch is None else self.batch} x {self.channels} x {sides}')

    def __call__(self, images: Any, score_thr: float = 0.3, batch_size: int = 1) -> list[Any]:
        """Return :meth:`stream` as a list."""
        return list(self.stream(images, batch_size, score_thr))

    predict = __call__

    def stream(self, images: Any, batch_size: int = 1, score_thr: float = 0.3, *, keep_images: bool = False,
               on_fault: Callable[[str], None] | None = None) -> Iterator[Any]:
        """Yield a :class:`Detections` or :class:`Classification` for each image, in their order.

        Images are decoded in a thread while the model computes, and memory does not grow with their number.

        Args:
            images: As for :func:`.sources.find_sources`.
            batch_size: Images that are predicted at once if their inputs have the same shape. A file without a
                dynamic batch dimension predicts them one by one.
            score_thr: Lowest score of objects.
            keep_images: Whether the results have their image.
            on_fault: Called with one line for each file that cannot be read. Otherwise such a file is a warning if it
                was found in a folder, and an error if the caller named it.

        Raises:
            ModelError: An input that cannot be used.
        """
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ModelError(f'batch_size={batch_size!r}: give a number of images')
        size = self.limit_batch(batch_size)
        items = prefetch(self._items(images, keep_images), max(_READ_AHEAD, size))
        for item, found in in_batches(items, _key, lambda key: size, lambda batch: self._predict_items(
                batch, score_thr)):
            if item.fault is None:
                yield self._result(item, found)
            elif on_fault is not None:
                on_fault(str(item.fault))
            elif item.source.is_found:
                warnings.warn(f'left out: {item.fault}', stacklevel=2)
            else:
                raise item.fault

    def limit_batch(self, batch_size: int) -> int:
        """Return how many images form a batch if the caller asks for ``batch_size``."""
        return batch_size if self.batch is None else self.batch

    @property
    def decoding(self) -> tuple[str, str]:
        """``color_type`` and ``backend`` for :func:`.images.read_image`."""
        step = self.steps[0] if self.steps and 'load' in self.steps[0] else dict(load='color')
        color = step['load']
        if self.channels != 3 and color.startswith('color'):
            ignore = color.removeprefix('color')
            color = f'grayscale{ignore}' if self.channels == 1 else 'unchanged'
        return color, step.get('backend', 'cv2')

    def read(self, path: str | os.PathLike) -> np.ndarray:
        """Read an image file as the test pipeline does: (H, W, C), BGR if C is 3, or (H, W) in gray.

        Raises:
            ModelError: It is not an image that the model takes.
        """
        image = read_image(path, *self.decoding)
        if _channels(image) != self.channels:
            raise ModelError(f'{os.fspath(path)} is not a readable image of {self.channels} channels. Replace it or '
                             'pass another file.')
        return image

    def prepare(self, image: np.ndarray) -> Prepared:
        """Prepare an image (H, W, C), BGR if C is 3, or (H, W), uint8.

        Raises:
            ModelError: It has another number of channels, or the wrong size for a classifier.
        """
        if self.channels == 3 and _channels(image) != 3:  # gray, or with an alpha channel
            layers = image.reshape(*image.shape[:2], -1)
            image = np.ascontiguousarray(layers[..., :3]) if layers.shape[2] == 4 else \
                np.repeat(layers, 3, 2) if layers.shape[2] == 1 else image
        if self.channels == 1 and _channels(image) == 3:
            image = to_gray(image)
        if _channels(image) != self.channels:
            raise ModelError(f'the image array has {_channels(image)} channels, the model requires {self.channels}.')
        if self.steps and self.steps[0].get('to_float32'):
            image = image.astype(np.float32)
        shape = None if self.has_dynamic_size else self.shape
        return prepare(image, self.steps, shape, fits=not self.is_classifier)

    def predict_prepared(self, inputs: Sequence[Prepared], score_thr: float) -> list[Found] | list[np.ndarray]:
        """Return the objects, or the probabilities (K,), of results of :meth:`prepare` of equal shape."""
        limit = self.limit_batch(len(inputs))
        found: list[Any] = []
        for start in range(0, len(inputs), limit):
            part = inputs[start:start + limit]
            outputs = self.session.run(self.stack(part))
            outputs = {name: value[None] if self._lacks_batch(name, value) else value
                       for name, value in outputs.items()}
            for index, prepared in enumerate(part):
                row = {name: value[index] for name, value in outputs.items()}
                found.append(row['scores'] if self.is_classifier else self._found(row, prepared, score_thr))
        return found

    def stack(self, inputs: Sequence[Prepared]) -> np.ndarray:
        """Return the input of the session for results of :meth:`prepare` of equal shape.

        Returns:
            (B, C, H, W) float32 with the values of padding where an image ends, RGB if C is 3.
        """
        count = self.batch or len(inputs)
        batch = np.empty((count, self.channels, *inputs[0].canvas), np.float32)
        for planes, prepared in zip(batch, inputs):
            image = prepared.image.reshape(*prepared.image.shape[:2], -1)
            height, width = image.shape[:2]
            planes[:, height:] = planes[:, :, width:] = self._padding[:, None, None]
            planes[:, :height, :width] = (image[..., ::-1] if self.channels == 3 else image).transpose(2, 0, 1)
        batch[len(inputs):] = batch[0]  # of a file for a fixed number of images
        return batch

    def _items(self, images: Any, keep_images: bool) -> Iterator[_Item]:
        for source in find_sources(images, *self.decoding):
            try:
                image = self.read(_in_utf8(source.path)) if source.content is None else source.content()  # type: ignore
                yield _Item(source, self.prepare(image), image if keep_images else None)
            except ModelError as error:
                name = '' if source.name in str(error) else f'{source.name}: '
                yield _Item(source, fault=ModelError(f'{name}{error}'))

    def _predict_items(self, items: Sequence[_Item], score_thr: float) -> Any:
        results = self.predict_prepared([item.prepared for item in items], score_thr)  # type: ignore[misc]
        for item in items:
            assert item.prepared is not None
            item.prepared.image = np.empty(0)  # results wait for those before them, inputs need not
        return results

    def _lacks_batch(self, name: str, value: np.ndarray) -> bool:
        """Whether an output is that of an earlier file, for one image without the dimension of the batch."""
        return not self.is_classifier and value.ndim < dict(boxes=3, masks=4).get(name, 2)

    def _found(self, row: dict[str, np.ndarray], prepared: Prepared, score_thr: float) -> Found:
        scores = row['scores'].astype(np.float32, copy=False)
        order = np.argsort(-scores, kind='stable')
        order = order[(scores[order] > 0) & (scores[order] >= score_thr) & (row['labels'][order] >= 0)]
        (height, width), offset = prepared.original, np.array(prepared.offset * 2, np.float32)
        boxes = (row['boxes'][order].astype(np.float32) - offset) / np.array(prepared.scale * 2, np.float32)
        is_inside = (boxes[:, :2] < (width, height)).all(1) & (boxes[:, 2:] > 0).all(1)  # others are in the padding
        order, boxes = order[is_inside], boxes[is_inside]
        rles = grids = None
        if 'masks' in row:
            masks = row['masks'][order]
            if masks.shape[1:] == prepared.canvas and masks.dtype.kind in 'bui':
                rles = [fit_mask(mask, prepared.offset, prepared.content, prepared.original) for mask in masks]
            else:
                grids = masks.astype(np.float32, copy=False)
                rles = [paste_mask(mask, box, prepared.original, self._threshold) for mask, box in zip(grids, boxes)]
        boxes = boxes.clip(0, np.array([width, height] * 2, np.float32))
        return Found(boxes, scores[order], row['labels'][order].astype(np.int64), rles, grids)

    def _result(self, item: _Item, found: Any) -> Detections | Classification:
        assert item.prepared is not None
        path, shape = item.source.path, item.prepared.original
        if self.is_classifier:
            labels = np.argsort(-found, kind='stable')
            return Classification(path, found[labels], labels, self._names(labels), shape, item.image)
        return Detections(path, found.boxes, found.scores, found.labels, self._names(found.labels), found.rles, shape,
                          item.image)

    def _names(self, labels: np.ndarray) -> list[str]:
        return [self.classes[label] if label < len(self.classes) else f'class {label}' for label in labels]

    def _find_steps(self, about: dict[str, Any]) -> list[Step]:
        if about.get('preprocess'):
            return list(about['preprocess'])
        try:
            return translate(about.get('pipeline') or ())
        except UnknownStep as error:
            if about.get('pipeline'):
                warnings.warn(f'{self.path}: {error} of the test pipeline cannot be applied: images are resized to '
                              f'{self.shape[0]} x {self.shape[1]}', stacklevel=4)
            return fallback_steps(self.shape, self.is_classifier)


def fallback_steps(shape: tuple[int, int], is_classifier: bool) -> list[Step]:
    """Return steps for a pipeline that cannot be expressed: the image fits into the input, or fills it."""
    size = [shape[1], shape[0]]
    how: Step = dict(interpolation='bilinear', backend='cv2')
    return [dict(load='color'), dict(resize=size, keep_ratio=False, **how) if is_classifier else dict(fit=size, **how)]


def _key(item: _Item) -> Any:
    return None if item.prepared is None else item.prepared.canvas


def _channels(image: np.ndarray) -> int:
    return 1 if image.ndim == 2 else int(image.shape[2])


def _in_utf8(path: str) -> str:
    """Return a path that files of results can hold."""
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise ModelError(f'{path} has a name that is not UTF-8; rename it') from error
    return path


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
