"""Prediction with models by name; results are plain Python and NumPy objects."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import BaseModel

from vitdet_plugin.compat.packaged_configs import shipped_configs
from vitdet_plugin.config.loading import load_config
from vitdet_plugin.engine.image_source import ImageSource
from vitdet_plugin.engine.image_sources import ImageStream
from vitdet_plugin.engine.inference_precision import asked_dtype
from vitdet_plugin.engine.load_model import load_model
from vitdet_plugin.errors import UserError
from vitdet_plugin.prediction.drawing import Drawings
from vitdet_plugin.prediction.exported_model import ExportedModel
from vitdet_plugin.prediction.format_names import RESULTS
from vitdet_plugin.prediction.results import Classification, Detections
from vitdet_plugin.prediction.run_folder import find_run, is_exported, stands_alone
from vitdet_plugin.prediction.stream import AUTO, Predicted, Stream, report_fault
from vitdet_plugin.prediction.tiles import Tiling
from vitdet_plugin.prediction.torch_model import TorchModel
from vitdet_plugin.prediction.writers import ResultFiles, check_formats
from vitdet_plugin.utils.output import warn
from vitdet_plugin.utils.output_files import LongNameError
from vitdet_plugin.utils.output_folder import OutputFolder
from vitdet_plugin.utils.track import track

__all__ = ['Classification', 'Detections', 'Inferencer']


class Inferencer:
    """A detector or classifier with its weights and its test pipeline, ready to predict.

    Attributes:
        model: The model, in eval mode; of an exported file, the object that runs it.
        classes: Names of its labels.
        is_classifier: Whether :meth:`predict` returns :class:`Classification` or :class:`Detections`.
    """

    def __init__(self, model: BaseModel, cfg: Config | None = None, classes: Sequence[str] = ()) -> None:
        if isinstance(model, ExportedModel):
            self.model: Any = model
            self._model: Any = model
        elif isinstance(model, torch.nn.Module) and cfg is not None:
            self.model = model.eval()
            self._model = TorchModel(model, cfg)
        else:
            raise UserError('Inferencer(model, cfg, classes) takes a model that is built and loaded; write '
                            'Inferencer.load(config, checkpoint)')
        self.cfg, self.classes = cfg, tuple(classes)
        self.is_classifier = self._model.is_classifier

    @property
    def precision(self) -> str:
        """Type that the model predicts in: ``fp32``, ``bf16`` or ``fp16``; of an ONNX file also ``int8``."""
        return self._model.precision

    @property
    def color_type(self) -> str:
        """How the test pipeline decodes image files, as in mmcv: ``'color'``, ``'grayscale'``, …."""
        return self._model.color_type

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width in pixels of the model's input for an image of 480 x 640 pixels (height x width)."""
        return self._model.input_size

    @staticmethod
    def list_models() -> list[str]:
        """Return the names of the shipped configs, which :meth:`load` accepts."""
        return sorted(shipped_configs())

    @classmethod
    def load(cls, config: str | Path | Config, checkpoint: str | Path | None = None,
             device: str | torch.device | None = None, options: Mapping[str, Any] | Sequence[str] = (),
             half: str | bool | None = None, dtype: str | None = None, threads: int | None = None) -> Inferencer:
        """Build a model and load its weights.

        Args:
            config: Name of a shipped config (:meth:`list_models`), config file, or a loaded config. Configs are
                programs: use only configs that you trust. Without ``checkpoint``, also a work directory of a training,
                whose config and best checkpoint (or else the newest) are used, a checkpoint in one, or a file of
                ``vitdet export`` (``.onnx``, or ``.xml`` of OpenVINO).
            checkpoint: A file in a format of this project or an official one (detectron2's ``.pkl``, mmdet's,
                EasyCV's), or a work directory, whose best checkpoint (or else the newest) is loaded. With None the
                weights are random, for measuring speed, which is a warning. Class names are those stored in the
                checkpoint, or else the config's.
            device: By default the GPU if there is one.
            options: Changes to the config: a dictionary of dotted keys and values, or ``KEY=VALUE`` words.
            half: Whether to predict in 16 bits: ``'fp16'``, ``'bf16'``, or True for ``dtype='auto'``.
            dtype: ``'fp32'`` (the default), ``'bf16'``, ``'fp16'``, or ``'auto'``: bf16 on a CPU or GPU with
                instructions for it, otherwise fp16 on a GPU and fp32 on a CPU. A CPU without such instructions uses
                float32 for all of them, with a warning; :attr:`precision` is what is used. An ONNX file has a type of
                its own; OpenVINO's files can be predicted in bf16.
            threads: Threads of the processor. For a model of PyTorch, those of this process.

        Raises:
            UserError: Unknown name, broken config, or a checkpoint that does not fit.
        """
        asked, option = asked_dtype(dtype, half)
        if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
            raise UserError(f'--threads {threads}: give a number of threads from 1')
        if not isinstance(config, Config) and checkpoint is None and (is_exported(config) or _is_alone(config)):
            if is_exported(config):
                unused = [name for name, is_given in (('--cfg-options', options), (f'--device {device}', str(
                    device or 'cpu') != 'cpu')) if is_given]
                if unused:
                    raise UserError(f'{config}: {unused[0]} cannot be used with an exported file, which has its '
                                    'settings and runs on the processor; leave it out')
                exported = ExportedModel.in_dtype(str(config), asked if dtype or half else None, option, threads)
                return cls(exported, None, exported.classes)
            config, checkpoint = find_run(config)
        cfg = load_config(config, options)
        if cfg.get('model') is None or cfg.get('test_dataloader') is None:
            raise UserError(f'config {cfg.filename} has no model or no test_dataloader; give the config of a detector '
                            'or classifier')
        loaded = load_model(cfg, checkpoint, device)
        inferencer = cls(loaded.model, loaded.cfg, loaded.classes or ())
        inferencer._model.use_dtype(asked, option)
        if threads is not None:
            torch.set_num_threads(threads)
        return inferencer

    def predict(self, images: Any, score_thr: float = 0.3, out_dir: str | Path | None = None, progress: bool = False, *,
                batch_size: int | str = 1, tile: int | None = None, overlap: float = 0.2,
                channels: str = 'bgr') -> list[Detections] | list[Classification]:
        """Detect objects in images, or classify them.

        Args:
            images: One of the following, or a list or generator of them: a file; a folder (its images and those of its
                subfolders, sorted by path); a pattern (``'photos/*.jpg'``); a text file with a path per line; an
                ``http(s)`` URL; a video, each frame of which is an image; a camera (``'camera:0'``); ``'-'``, a list
                of paths on standard input; an array (H, W, 3) uint8 in the order of ``channels``, in gray (H, W), or
                (N, H, W, 3); a tensor (3, H, W) or (N, 3, H, W) in RGB order, uint8 or in [0, 1]; a PIL image; the
                bytes of an image file, or such a file opened with mode ``'rb'``.
            score_thr: Lowest score of a detection; the config's own threshold applies too. A classifier returns all
                classes.
            out_dir: Folder for drawn images, ``<name>.jpg`` in the subfolders of a given folder (images in memory:
                ``image_<number>.jpg``), and drawn videos, ``<name>.mp4``.
            progress: Whether to show the progress on standard error.
            batch_size: Images that are predicted at once if their inputs have the same shape, or ``'auto'``. Results
                of batches differ from those of single images by rounding only.
            tile: Side in pixels of the tiles in which a detector predicts images that are larger; their results are
                merged by suppression between tiles. None predicts whole images.
            overlap: Part of a tile that it shares with the next one. Objects larger than it are also searched in the
                whole image.
            channels: Order of the channels of arrays, ``'bgr'`` (OpenCV) or ``'rgb'``.

        Returns:
            One :class:`Detections` or :class:`Classification` per image, in the given order. Files of a folder that
            cannot be read or are hidden are left out with a warning that names them.

        Raises:
            UserError: A path that does not exist, a folder without images, or another file or object that is not an
                image.
        """
        return list(self.predict_each(  # type: ignore[return-value]
            images, score_thr, out_dir, progress, batch_size=batch_size, tile=tile, overlap=overlap, channels=channels))

    def predict_each(self, images: Any, score_thr: float = 0.3, out_dir: str | Path | None = None,
                     progress: bool = False, on_fault: Callable[[str], None] | None = None, *,
                     batch_size: int | str = 1, tile: int | None = None, overlap: float = 0.2, channels: str = 'bgr'
                     ) -> Iterator[Detections] | Iterator[Classification]:
        """Yield the results of :meth:`predict` one by one, for more images than fit into memory.

        Args:
            images, score_thr, out_dir, progress, batch_size, tile, overlap, channels: As for :meth:`predict`.
            on_fault: Called with one line for each file that cannot be read, which is left out then.
        """
        out = None if out_dir is None else Drawings(Path(out_dir), self.classes, score_thr)
        tiling = None if tile is None else Tiling(tile, overlap)
        predicted = self._predict(images, score_thr, batch_size, tiling, channels, out is not None, on_fault, progress)
        return _results(predicted, out, None, on_fault)

    def stream(self, images: Any, batch_size: int | str = AUTO, score_thr: float = 0.3, **options: Any
               ) -> Iterator[Detections] | Iterator[Classification]:
        """Yield results as they come, in batches and with images decoded in a thread.

        Memory does not grow with the number of images: masks are kept as RLE, and images are read when they are needed.

        >>> for found in detector.stream('photos/', batch_size=8):
        ...     print(found.path, found.to_coco())

        Args:
            images, batch_size, score_thr: As for :meth:`predict`.
            **options: Others of :meth:`predict_each`.
        """
        return self.predict_each(images, score_thr, batch_size=batch_size, **options)

    def save(self, images: Any, out_dir: str | Path, formats: str | Sequence[str] = ('jsonl',), *,
             score_thr: float = 0.3, draw: bool = False, top: int = 5, save_conf: bool = False, progress: bool = False,
             on_fault: Callable[[str], None] | None = None, batch_size: int | str = AUTO, tile: int | None = None,
             overlap: float = 0.2, channels: str = 'bgr', on_step: Callable[[], None] | None = None
             ) -> Iterator[Detections] | Iterator[Classification]:
        """Yield results like :meth:`predict_each`, each after it was written to files.

        The files are complete after each result, so that an interruption loses nothing.

        Args:
            images, score_thr, progress, on_fault, batch_size, tile, overlap, channels: As for :meth:`predict_each`.
            out_dir: Folder of the files.
            formats: One or several of ``'coco'``, ``'yolo'``, ``'labelme'``, ``'csv'``, ``'jsonl'``, ``'json'``; for
                classifiers one of the last three.
            draw: Whether to write drawn images and videos, too.
            top: Most classes of an image that a classifier writes.
            save_conf: Whether to append the score to the lines of YOLO's files.
            on_step: Called between the steps of the work, also while it waits for images; it may raise an exception to
                stop where all files are complete.
        """
        names = check_formats([formats] if isinstance(formats, str) else formats, self.is_classifier)
        out = OutputFolder(out_dir, RESULTS)  # of both, so that one record has all files
        files = ResultFiles(out, names, self.classes, top, save_conf)
        drawings = Drawings(out, self.classes, score_thr) if draw else None
        tiling = None if tile is None else Tiling(tile, overlap)
        predicted = self._predict(images, score_thr, batch_size, tiling, channels, draw, on_fault, progress,
                                  on_step, out)
        return _results(predicted, drawings, files, on_fault)

    def _predict(self, images: Any, score_thr: float, batch_size: int | str, tiling: Tiling | None, channels: str,
                 keeps_images: bool, on_fault: Callable[[str], None] | None, progress: bool,
                 on_step: Callable[[], None] | None = None, out: OutputFolder | None = None) -> Iterator[Predicted]:
        found = ImageStream(images, channels, self._model.color_type)
        sources = found if out is None else _others(found, out)
        stream = Stream(self._model, self.classes, sources, score_thr, batch_size, tiling, keeps_images, on_fault,
                        on_step)
        yield from track(stream, found.total, 'images') if progress else stream


def _is_alone(config: str | Path) -> bool:
    return str(config) not in shipped_configs() and stands_alone(config)


def _others(sources: Iterable[ImageSource], out: OutputFolder) -> Iterator[ImageSource]:
    """Leave out what an earlier run has drawn into the output folder, if it is below a folder to predict."""
    count = 0
    for source in sources:
        if source.is_found and isinstance(source.path, Path) and out.is_of_earlier_run(source.path):
            count += 1
        else:
            yield source
    if count:
        warn(f'{count} files that an earlier run has written to {out.folder} are not predicted')


def _results(predicted: Iterator[Predicted], drawings: Drawings | None, files: ResultFiles | None,
             on_fault: Callable[[str], None] | None) -> Iterator[Any]:
    try:
        for each in predicted:
            try:
                if drawings is not None:  # first, as it finds that the images are in the output folder
                    assert each.image is not None
                    drawings.add(each.image, each.result, each.clip_name or each.name, each.source.clip)
                if files is not None:
                    files.add(each.result, each.name)
            except LongNameError as error:
                report_fault(each.source, error, on_fault)
                continue
            yield each.result
    finally:
        if files is not None:
            files.close()
        if drawings is not None:
            drawings.close()
    if files is not None:
        files.output.report_others()
