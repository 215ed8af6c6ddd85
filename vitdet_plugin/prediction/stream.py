"""Predict a stream of images: decode in a thread, predict in batches, merge tiles, one result after the other."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, Protocol

import numpy as np

from vitdet_plugin.datasets.unusual_images import DARK, describe_depth, has_several_frames, stored_bits
from vitdet_plugin.engine.image_source import ImageSource
from vitdet_plugin.errors import UserError
from vitdet_plugin.prediction.results import Classification, Detections
from vitdet_plugin.prediction.tiles import Tiling, Window, merge_tiles
from vitdet_plugin.runtime.batches import in_batches
from vitdet_plugin.runtime.model import Found
from vitdet_plugin.runtime.prefetch import prefetch
from vitdet_plugin.utils.class_names import name_of_label
from vitdet_plugin.utils.distinct_names import OutputNames
from vitdet_plugin.utils.output import warn
from vitdet_plugin.utils.scores import check_score

AUTO = 'auto'
_READ_AHEAD = 4  # inputs that are decoded while a batch is predicted, at least


class Model(Protocol):
    """What predicts: :class:`TorchModel` or :class:`ExportedModel`."""

    is_classifier: bool

    @property
    def color_type(self) -> str: ...
    def load(self, source: Any) -> dict[str, Any]: ...
    def pack(self, source: Any, loaded: dict[str, Any]) -> dict[str, Any]: ...
    def key(self, packed: dict[str, Any]) -> Hashable: ...
    def batch_size(self, key: Hashable) -> int: ...
    def predict(self, packs: Sequence[dict[str, Any]], score_thr: float) -> Any: ...


@dataclass(frozen=True)
class Predicted:
    """The result of an image, and what is needed to write it.

    Attributes:
        source: Where the image is from.
        name: Path of its output files without suffix, different for every image; of a frame, that of the image, not of
            the video.
        clip_name: Path of the drawn video; None for an image.
        result: What was predicted.
        image: The image (H, W, 3) uint8 in BGR order, if it was asked for.
    """

    source: ImageSource
    name: str
    clip_name: str | None
    result: Detections | Classification
    image: np.ndarray | None


@dataclass
class _Piece:
    """An image or a tile of it, or the reason why there is none."""

    source: ImageSource
    packed: dict[str, Any] = field(default_factory=dict)
    shape: tuple[int, int] = (0, 0)
    windows: Sequence[Window] = ()
    is_last: bool = True
    image: np.ndarray | None = None
    fault: UserError | None = None


class Stream:
    """The results of a stream of images, in order. It can be iterated over once.

    Args:
        model: The model.
        classes: Its class names.
        images: The images.
        score_thr: Lowest score of objects.
        batch_size: Images (or tiles) of a batch; ``'auto'`` chooses by the size of the inputs and the device.
        tiling: How detectors cut large images; None for the whole image.
        keeps_images: Whether results come with their image.
        on_fault: Called with one line for each file that cannot be read. Otherwise such a file is a warning if it was
            found in a folder or list, and an error if the caller named it.
        on_step: Called between the steps of the work, also while it waits for images; it may raise to stop.
    """

    def __init__(self, model: Model, classes: Sequence[str], images: Iterable[ImageSource], score_thr: float = 0.3,
                 batch_size: int | str = AUTO, tiling: Tiling | None = None, keeps_images: bool = False,
                 on_fault: Callable[[str], None] | None = None, on_step: Callable[[], None] | None = None) -> None:
        if not (batch_size == AUTO or isinstance(batch_size, int) and batch_size > 0):
            raise UserError(f'batch size {batch_size!r}: give a number of images, or {AUTO}')
        check_score(score_thr, f'score_thr={score_thr!r}')
        self._model, self._classes, self._images = model, tuple(classes), images
        self._score_thr, self._batch_size = score_thr, batch_size
        self._on_fault, self._on_step = on_fault, on_step
        self._tiling, self._keeps_images = None if model.is_classifier else tiling, keeps_images
        self._noted: set[str] = set()

    def __iter__(self) -> Iterator[Predicted]:
        names, parts = OutputNames(), []
        clip, clip_name = None, None
        depth = _READ_AHEAD if self._batch_size == AUTO else max(_READ_AHEAD, int(self._batch_size))
        ready = map(self._step, prefetch(self._pieces(), depth))
        for piece, result in in_batches(ready, self._key, self._size, self._predict):
            source = piece.source
            if piece.fault is not None:
                parts = []
                names.new(source.output)
                report_fault(source, piece.fault, self._on_fault)
                continue
            parts.append(result)
            if not piece.is_last:
                continue
            if source.clip is not clip:
                clip = source.clip
                clip_name = None if clip is None else names.new(clip.output)
            found = parts[0] if len(parts) == 1 else merge_tiles(parts, piece.windows, piece.shape, self._tiling)
            parts = []
            name = names.new(source.output if clip is None else PurePath(f'{clip_name}_{source.frame:06}'))
            yield Predicted(source, name, clip_name, self._result(source, found, piece.shape), piece.image)

    def _step(self, item: Any) -> Any:
        if self._on_step is not None:
            self._on_step()
        return item

    def _pieces(self) -> Iterator[_Piece]:
        for source in self._images:
            try:
                content = source.content()
                loaded = self._model.load(content)
                if source.is_hidden:
                    raise UserError(f'{source.name} is a hidden file; name the file itself to predict it')
                image = loaded['img']
                if isinstance(content, Path):
                    self._note_depth(content, image)
                    self._note_frames(content)
                shape = int(image.shape[0]), int(image.shape[1])
                shown = _shown(image) if self._keeps_images else None
                windows = self._tiling.windows(shape) if self._tiling else []
                if not windows:
                    yield _Piece(source, self._model.pack(content, loaded), shape, image=shown)
                for number, (x1, y1, x2, y2) in enumerate(windows, 1):
                    crop = np.ascontiguousarray(image[y1:y2, x1:x2])
                    size = crop.shape[:2]
                    packed = self._model.pack(crop, dict(img=crop, img_id=0, img_path=None, img_shape=size,
                                                         ori_shape=size))
                    is_last = number == len(windows)
                    yield _Piece(source, packed, shape, windows, is_last, shown if is_last else None)
            except UserError as error:
                yield _Piece(source, fault=error)

    def _note_depth(self, path: Path, image: np.ndarray) -> None:
        """Print a line about the first file with more than 8 bits per channel, and the first that is nearly black."""
        if image.dtype != np.uint8:  # the pipeline keeps the values of the file
            return
        kind = 'dark' if image.max(initial=0) < DARK else 'deep'
        if kind not in self._noted and (bits := stored_bits(path)) > 8:
            self._noted.add(kind)
            warn(f'{path} has more than 8 bits per channel ({describe_depth(path, bits)}); more of them are not named')

    def _note_frames(self, path: Path) -> None:
        """Print a line about the first file with several pages or frames."""
        if 'frames' not in self._noted and has_several_frames(path):
            self._noted.add('frames')
            warn(f'{path} has several pages or frames, of which the first is predicted; save the others as '
                 'separate files. More such files are not named')

    def _key(self, piece: _Piece) -> Hashable | None:
        if piece.fault is not None:
            return None
        is_live = piece.source.clip is not None and piece.source.clip.is_live
        return self._model.key(piece.packed), is_live

    def _size(self, key: Any) -> int:
        shape, is_live = key
        return 1 if is_live else self._model.batch_size(shape) if self._batch_size == AUTO else int(self._batch_size)

    def _predict(self, pieces: Sequence[_Piece]) -> Any:
        results = self._model.predict([piece.packed for piece in pieces], self._score_thr)
        for piece in pieces:
            piece.packed = {}  # results wait for those before them, inputs need not
        return results

    def _result(self, source: ImageSource, found: Found | np.ndarray,
                shape: tuple[int, int]) -> Detections | Classification:
        path = None if source.path is None else str(source.path)
        if isinstance(found, Found):
            return Detections(path, found.boxes, found.scores, found.labels, self._names(found.labels), found.rles,
                              source.frame, shape)
        labels = np.argsort(-found, kind='stable')
        return Classification(path, found[labels], labels, self._names(labels), source.frame, shape)

    def _names(self, labels: np.ndarray) -> list[str]:
        return [name_of_label(label, self._classes) for label in labels]


def report_fault(source: ImageSource, fault: UserError, on_fault: Callable[[str], None] | None) -> None:
    """Report an image that is left out, as :class:`Stream` describes it.

    Raises:
        UserError: The fault, if nothing else reports it.
    """
    if on_fault is not None:
        on_fault(str(fault))
    elif source.is_found:
        warnings.warn(f'left out: {fault}', stacklevel=4)
    else:
        raise fault


def _shown(image: np.ndarray) -> np.ndarray:
    """Return an image as it was loaded, (H, W) or (H, W, C), for drawing: (H, W, 3) uint8."""
    image = image.reshape(*image.shape[:2], -1)
    image = image[..., :3] if image.shape[2] >= 3 else np.repeat(image[..., :1], 3, 2)
    return image if image.dtype == np.uint8 else image.clip(0, 255).astype(np.uint8)
