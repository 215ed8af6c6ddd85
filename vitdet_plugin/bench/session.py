"""Plan and run a benchmark: load the model, export it, and build a row for each combination of the options."""

from __future__ import annotations

import copy
import importlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from vitdet_plugin.api import Inferencer
from vitdet_plugin.bench.images import find_images, resized
from vitdet_plugin.bench.rows import Row, first_line
from vitdet_plugin.bench.runners import FileRunner, Runner, TorchRunner, step
from vitdet_plugin.compat.cpu_features import has_fast_bf16
from vitdet_plugin.engine.load_model import load_model
from vitdet_plugin.errors import UserError
from vitdet_plugin.evaluation.test_images import TestImages
from vitdet_plugin.export.metadata import test_pipeline
from vitdet_plugin.export.onnx import export_onnx
from vitdet_plugin.prediction.exported_model import ExportedModel
from vitdet_plugin.prediction.run_folder import find_run, is_exported, stands_alone
from vitdet_plugin.prediction.torch_model import TorchModel
from vitdet_plugin.runtime.pipeline import UnknownStep, translate
from vitdet_plugin.utils.track import working

FILE_BACKENDS = ('onnxruntime', 'openvino')
_NO_16_BITS = 'this processor has no bfloat16 instructions'


@dataclass
class Options:
    """Options of ``vitdet bench``; see its ``--help``."""

    backends: Sequence[str]
    dtypes: Sequence[str] | None = None
    threads: Sequence[int] = (1,)
    batches: Sequence[int] = (1,)
    shapes: Sequence[tuple[int, int]] = ()
    compiles: bool = False
    images: str | None = None
    files: Sequence[str] = ()
    score_thr: float = 0.3
    device: str | None = None
    cfg_options: Sequence[str] = ()


class Benchmark:
    """The rows of a model.

    Args:
        model: A config, a work directory, a checkpoint in one, or an exported file.
        checkpoint: The checkpoint of a config; None for random weights.
        options: What to measure.
        folder: Folder for the files that are exported.

    Attributes:
        rows: One for each combination.
        runners: (row, the model that it runs), for rows that can be measured.
        cfg: The config; None for an exported file.

    Raises:
        UserError: The model cannot be loaded.
    """

    def __init__(self, model: str, checkpoint: str | None, options: Options, folder: Path) -> None:
        self._options, self._folder = options, folder
        self.rows: list[Row] = []
        self.runners: list[tuple[Row, Runner]] = []
        self.cfg: Config | None = None
        self.device = 'cpu'
        if is_exported(model):
            self._add_files([model], None)
            return
        config: Any = model
        if checkpoint is None and stands_alone(model):
            config, checkpoint = map(str, find_run(model))
        with working('loading the model'):
            inferencer = Inferencer.load(config, checkpoint, options.device, options.cfg_options)
        assert inferencer.cfg is not None
        self.cfg, self.is_classifier = inferencer.cfg, inferencer.is_classifier
        self.classes = list(inferencer.classes)
        self.device = next(inferencer.model.parameters()).device.type
        compiled = _compiled(inferencer.model) if options.compiles else None
        for shape in options.shapes or (None,):
            cfg = self.cfg if shape is None else resized(self.cfg, shape)
            images: list[Any] = []
            for backend, module in (('pytorch', inferencer.model), ('compiled', compiled)):
                if module is not None and ('pytorch' in options.backends or backend == 'compiled'):
                    images = self._add_torch(backend, TorchModel(module, cfg), cfg)
            if options.files:
                self._add_files(options.files, cfg)
            elif set(FILE_BACKENDS) & set(options.backends):
                runner = TorchRunner(TorchModel(inferencer.model, cfg), 'fp32', options.threads[0])
                images = images or find_images(runner, cfg, options.images, 1)
                self._add_files([partial(self._export, checkpoint, cfg,
                                         runner.shape(runner.preprocess(images[0])))], cfg)

    def _add_torch(self, backend: str, model: TorchModel, cfg: Config) -> list[Any]:
        images: list[Any] = []
        for dtype in self._dtypes(backend):
            reason = self._missing_dtype(dtype)
            for threads in self._options.threads:
                runner = TorchRunner(model, dtype, threads)
                images = images or find_images(runner, cfg, self._options.images, max(self._options.batches))
                for batch in self._options.batches:
                    self._add(Row(backend, dtype, threads, batch, reason=reason), runner, images)
        return images

    def _add_files(self, files: Sequence[str | Callable[[], str]], cfg: Config | None) -> None:
        """Add the rows of exported files; a function exports one when it is called."""
        for given in files:
            fault, path = '', given if isinstance(given, str) else ''
            try:
                path = given() if callable(given) else given
            except UserError as error:
                fault = first_line(error)
            for backend in FILE_BACKENDS:
                if backend in self._options.backends:
                    self._add_file(backend, path, cfg, fault, isinstance(given, str))

    def _add_file(self, backend: str, path: str, cfg: Config | None, fault: str, is_given: bool) -> None:
        name = f'{backend} {Path(path).name}' if is_given and len(self._options.files) > 1 else backend
        images: list[Any] = []
        for dtype in self._dtypes(backend):
            reason = fault or _missing_package(backend) or _unusable(backend, path, dtype)
            for threads in self._options.threads:
                runner, why = (None, reason) if reason else self._open(backend, path, dtype, threads, cfg)
                for batch in self._options.batches:
                    row = Row(name, dtype, threads, batch, reason=why)
                    if runner is not None:
                        images = images or find_images(runner, cfg, self._options.images, max(self._options.batches))
                        if runner.batch not in (None, batch):
                            row.reason = f'the file takes a batch of {runner.batch} only'
                    self._add(row, runner, images)

    def _open(self, backend: str, path: str, dtype: str, threads: int,
              cfg: Config | None) -> tuple[FileRunner | None, str]:
        """Return the file in a backend, or the reason why it cannot be used."""
        try:
            model = ExportedModel(path, threads, dtype == 'bf16', backend, self._providers(backend))
        except UserError as error:
            return None, first_line(error)
        runner = FileRunner(model, _steps(cfg) if self._options.shapes and model.model.has_dynamic_size else None)
        if self.cfg is None:
            self.is_classifier, self.classes = runner.is_classifier, runner.classes
        return runner, ''

    def _providers(self, backend: str) -> list[str] | None:
        """Return the execution providers of ONNX Runtime: the processor, unless a GPU is asked for."""
        is_cpu = not str(self._options.device or 'cpu').startswith('cuda')
        return ['CPUExecutionProvider'] if backend == 'onnxruntime' and is_cpu else None

    def _add(self, row: Row, runner: Runner | None, images: Sequence[Any]) -> None:
        if runner is not None and not row.reason:
            sources = [images[index % len(images)] for index in range(row.batch)]
            row.shape = runner.shape(runner.preprocess(sources[0]))
            row.step = partial(step, runner, sources, self._options.score_thr)
            self.runners.append((row, runner))
        self.rows.append(row)

    def _dtypes(self, backend: str) -> Sequence[str]:
        if self._options.dtypes is not None:
            return self._options.dtypes
        if backend == 'onnxruntime':
            return ('fp32',)
        return ('fp32', 'fp16') if self.device != 'cpu' and backend != 'openvino' else \
            ('fp32', 'bf16') if has_fast_bf16() else ('fp32',)

    def _missing_dtype(self, dtype: str) -> str:
        if self.device != 'cpu' or dtype == 'fp32':
            return ''
        return 'fp16 is for GPUs' if dtype == 'fp16' else '' if has_fast_bf16() else _NO_16_BITS

    def _export(self, checkpoint: str | None, cfg: Config, shape: tuple[int, int]) -> str:
        path = self._folder / f'model_{shape[0]}x{shape[1]}_{len(self.rows)}.onnx'
        with working('exporting to ONNX'):
            loaded = load_model(cfg, checkpoint, 'cpu', expects_random=checkpoint is None)
            export_onnx(loaded, path, shape, dynamic=('batch',) if max(self._options.batches) > 1 else ())
        return str(path)

    def evaluate(self, count: int | None) -> str:
        """Set the accuracy of the rows, once for each backend, precision and input size.

        Args:
            count: Number of images of the test set; None for all.

        Returns:
            Name of the metric.

        Raises:
            UserError: There is no test set, or it does not fit the model.
        """
        if self.cfg is None:
            raise UserError('--data: an exported file has no data set; give its work directory, and the file with '
                            '--file')
        try:
            data = TestImages(self.cfg, self.classes, self.is_classifier, count)
        except UserError as error:
            raise UserError(f'--data: {error}') from error
        done: dict[tuple[Any, ...], float | None] = {}
        faults: dict[tuple[Any, ...], str] = {}
        metric = 'top-1' if self.is_classifier else 'AP'
        for row, runner in self.runners:
            key = row.backend, row.dtype, row.shape
            if key not in done and not row.reason:
                try:
                    found = data.evaluate(partial(_predict, runner), ' '.join(map(str, key[:2])))
                    done[key] = next(iter(found.values()))
                except UserError:
                    raise
                except Exception as error:  # another input than the one that was measured does not fit the file
                    done[key], faults[key] = None, (str(error).splitlines() or [type(error).__name__])[0]
            row.accuracy, row.fault = done.get(key), faults.get(key, '')
        return metric


def _steps(cfg: Config | None) -> list[dict[str, Any]] | None:
    """Return the steps of the test pipeline for the runtime; None for those of the file."""
    try:
        return None if cfg is None else translate(test_pipeline(cfg))
    except UnknownStep:
        return None


def _predict(runner: Runner, file: Path) -> Any:
    return runner.predict([runner.preprocess(file)], 0.0)[0][0]


def _compiled(model: torch.nn.Module) -> torch.nn.Module:
    model = copy.deepcopy(model)
    for name in ('backbone', 'neck'):
        part = getattr(model, name, None)
        if isinstance(part, torch.nn.Module):
            part.compile(dynamic=False)
    return model


def _missing_package(backend: str) -> str:
    try:
        importlib.import_module(backend)
    except ImportError:
        extra = dict(onnxruntime='onnx').get(backend, backend)
        return f'the package {backend} is not installed; run pip install "vitdet-plugin[{extra}]"'
    return ''


def _unusable(backend: str, path: str, dtype: str) -> str:
    if backend == 'onnxruntime' and os.path.splitext(path)[1].lower() == '.xml':
        return 'a file of OpenVINO'
    if backend == 'onnxruntime' and dtype != 'fp32':
        return 'the precision is that of the file; export another one'
    if dtype == 'fp16':
        return 'fp16 is for GPUs'
    return _NO_16_BITS if dtype == 'bf16' and not has_fast_bf16() else ''
