"""The whole report of a run: its sections, and what is left out of it and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
from mmengine.config import Config

from vitdet_plugin.config.dataset_config import data_files
from vitdet_plugin.config.registry import is_classifier
from vitdet_plugin.datasets.own_data.writer import PROBLEMS
from vitdet_plugin.engine.load_model import LoadedModel
from vitdet_plugin.errors import UserError
from vitdet_plugin.evaluation.classifications import ClassifiedSplit
from vitdet_plugin.evaluation.classifier_report import ClassifierReport
from vitdet_plugin.evaluation.detections import DetectedSplit
from vitdet_plugin.evaluation.detector_report import DetectorReport
from vitdet_plugin.utils.text import counted
from vitdet_plugin.visualization.html_report import classifier, detector
from vitdet_plugin.visualization.html_report.activation_maps import activation_section
from vitdet_plugin.visualization.html_report.curves import last_metrics, training_section
from vitdet_plugin.visualization.html_report.data_facts import data_section
from vitdet_plugin.visualization.html_report.elements import (
    ImageBudget,
    facts,
    folded,
    note,
    number,
    section,
    tag,
)
from vitdet_plugin.visualization.html_report.environment import environment_section
from vitdet_plugin.visualization.html_report.page import render
from vitdet_plugin.visualization.html_report.worst_images import worst_classifications, worst_detections

_IMAGE_BYTES = 4_000_000  # of all images as base64; the rest of the page is text
_LONGEST_CONFIG = 200_000  # characters


@dataclass
class Subject:
    """What a report is about.

    Attributes:
        cfg: Config of the model.
        work_dir: Folder of the training run; None if it is not known.
        split: The evaluated predictions; None without an evaluation.
        report: Their evaluation; None without one.
        loaded: The model; None if it is not needed or cannot be loaded.
        no_evaluation: Why there is no evaluation.
        results: File with the predictions, if they were read from one.
        device: Name of the device.
        command: The command that writes the report.
        images: Largest number of worst images.
        maps: Number of images with activation maps.
    """

    cfg: Config
    work_dir: Path | None = None
    split: DetectedSplit | ClassifiedSplit | None = None
    report: DetectorReport | ClassifierReport | None = None
    loaded: LoadedModel | None = None
    no_evaluation: str = ''
    results: str | None = None
    device: str = 'cpu'
    command: str = ''
    images: int = 8
    maps: int = 4


def build_page(subject: Subject) -> str:
    """Return the text of the report of a run; what cannot be shown is replaced by a line that says why."""
    budget = ImageBudget(_IMAGE_BYTES)
    sections = [_or_reason('Training', lambda: _training(subject))]
    if subject.report is None:
        sections.append(section('Evaluation', note(f'Left out: {subject.no_evaluation}')))
    else:
        sections += _evaluation(subject, budget)
        sections.append(_or_reason('Activation maps', lambda: _maps(subject, budget)))
    sections += [_or_reason('Data set', lambda: _data(subject)),
                 environment_section(subject.work_dir, subject.loaded.meta if subject.loaded else {}, subject.device,
                                     subject.command), _config(subject)]
    return render(_title(subject), _about(subject), _cards(subject), sections)


def _or_reason(title: str, make: Callable[[], Element]) -> Element:
    try:
        return make()
    except UserError as error:
        return section(title, note(f'Left out: {error}'))


def _title(subject: Subject) -> str:
    return f'{_config_name(subject)} · {_task(subject)}'


def _config_name(subject: Subject) -> str:
    """Return the name of the config, or of its folder if all folders have a config of this name."""
    path = Path(subject.cfg.filename or 'config')
    folder = path.absolute().parent
    if path.stem != 'config':
        return path.stem
    return folder.parent.name if folder.name == 'run' else folder.name


def _task(subject: Subject) -> str:
    if is_classifier(subject.cfg):
        return 'classification'
    head = subject.cfg.model.get('roi_head') or {}
    return 'instance segmentation' if head.get('mask_head') or subject.cfg.model.get('mask_head') else 'detection'


def _about(subject: Subject) -> Element:
    model, loaded, split = subject.cfg.model, subject.loaded, subject.split
    backbone = model.get('backbone') or {}
    kind = ' '.join(str(each) for each in (backbone.get('type'), backbone.get('model')) if each)
    if isinstance(backbone.get('arch'), str):
        kind += f' {backbone["arch"]}'
    evaluated = None
    if split is not None:
        evaluated = (f'{counted(len(split.files), "image")} of the {split.name} split, '
                     f'{counted(len(split.classes), "class")}')
    checkpoint = None
    if loaded is not None and loaded.checkpoint is not None:
        at = ', '.join(f'{name} {loaded.meta[name]}' for name in ('epoch', 'iter') if loaded.meta.get(name))
        checkpoint = f'{loaded.checkpoint}' + f' (after {at})' * bool(at)
    if subject.results:
        checkpoint = f'predictions of {subject.results}'
    name = split.name if split is not None else 'train'
    return facts([('task', _task(subject)), ('model', f'{model.get("type")}, backbone {kind}'),
                  ('data', ', '.join(data_files(subject.cfg, name))), ('evaluated', evaluated),
                  ('checkpoint', checkpoint)])


def _cards(subject: Subject) -> list[tuple[str, str]]:
    if isinstance(subject.report, DetectorReport):
        return detector.headline(subject.report)
    if isinstance(subject.report, ClassifierReport):
        return classifier.headline(subject.report)
    try:
        metrics = last_metrics(subject.work_dir) if subject.work_dir else {}
    except UserError:
        return []
    return [(f'{name}, last evaluation', number(value)) for name, value in list(metrics.items())[:4]]


def _training(subject: Subject) -> Element:
    if subject.work_dir is None:
        raise UserError('the checkpoint is in no folder of a training run')
    return training_section(subject.work_dir, _iteration(subject))


def _iteration(subject: Subject) -> int | None:
    value = subject.loaded.meta.get('iter') if subject.loaded and not subject.results else None
    return value if isinstance(value, int) and value > 0 else None


def _evaluation(subject: Subject, budget: ImageBudget) -> list[Element]:
    if isinstance(subject.report, DetectorReport) and isinstance(subject.split, DetectedSplit):
        return [*detector.detector_sections(subject.report),
                worst_detections(subject.split, subject.report, subject.images, budget)]
    assert isinstance(subject.report, ClassifierReport) and isinstance(subject.split, ClassifiedSplit)
    return [*classifier.classifier_sections(subject.report, subject.split),
            worst_classifications(subject.split, subject.images * 3, budget)]


def _maps(subject: Subject, budget: ImageBudget) -> Element:
    if subject.loaded is None or subject.split is None or not subject.maps:
        raise UserError('not requested (--maps 0)' if not subject.maps else 'the model was not loaded')
    files = subject.split.files
    chosen = np.unique(np.linspace(0, len(files) - 1, min(len(files), subject.maps)).round().astype(int))
    score_thr = subject.report.score_thr if isinstance(subject.report, DetectorReport) else 0.0
    return activation_section(subject.loaded, [files[index] for index in chosen], subject.loaded.classes or
                              subject.split.classes, score_thr, budget)


def _data(subject: Subject) -> Element:
    classes = subject.split.classes if subject.split is not None else []
    folders = [Path(subject.cfg.filename).parent] if subject.cfg.filename else []
    if subject.work_dir is not None:
        folders += [subject.work_dir, subject.work_dir.parent]
    problems = next((folder / PROBLEMS for folder in folders if (folder / PROBLEMS).is_file()), None)
    return data_section(subject.cfg, classes, is_classifier(subject.cfg), problems)


def _config(subject: Subject) -> Element:
    parts: list[Any] = []
    own = Path(subject.cfg.filename or '')
    if own.is_file():
        parts.append(folded(own.name, tag('pre', own.read_text(encoding='utf-8', errors='replace')[:_LONGEST_CONFIG])))
    parts.append(folded('with everything that it inherits', tag('pre', subject.cfg.pretty_text[:_LONGEST_CONFIG])))
    return section('Config', parts)
