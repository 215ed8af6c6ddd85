"""Testing: evaluate a checkpoint, write predictions and images."""

import copy
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.dist import barrier, is_main_process
from mmengine.fileio import dump

from vitdet_plugin.compat.remote_files import STORES, scheme_of
from vitdet_plugin.config.check_values import COCO_METRICS
from vitdet_plugin.config.dataset_config import split_datasets
from vitdet_plugin.config.explain import user_errors
from vitdet_plugin.config.registry import as_list, is_classifier, is_coco_metric, type_name
from vitdet_plugin.engine.data_workers import ended_data_workers
from vitdet_plugin.engine.inference import META_KEYS, find_checkpoint
from vitdet_plugin.engine.inference_precision import asked_dtype, inference_dtype, name_of, predict_in
from vitdet_plugin.engine.precision import training_device
from vitdet_plugin.engine.preflight import preflight
from vitdet_plugin.engine.process_state import finish
from vitdet_plugin.engine.runners import build_runner
from vitdet_plugin.engine.session import SessionOptions, add_hook, load_session_config
from vitdet_plugin.engine.tta import flip_tta_config
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.kept_files import keep_files
from vitdet_plugin.utils.output_files import write_atomically
from vitdet_plugin.utils.paths import check_output_path
from vitdet_plugin.utils.text import suggest

_TRAINING_HOOKS = ('EarlyStoppingHook', 'PatienceHook', 'ValidationLossHook')  # these require a training loop
_AFTER_FLIP = ('LetterBox', 'Pad', 'LoadAnnotations', 'PackDetInputs', 'PackInputs')
_METRIC_FILES = ('.json', '.yaml', '.yml', '.pkl', '.pickle')
_CLASS_METRICS = ('accuracy', 'precision', 'recall', 'f1-score', 'support')


@dataclass(kw_only=True)
class TestOptions(SessionOptions):
    """Options of an evaluation; see :func:`vitdet_plugin.api.test`."""

    __test__ = False  # not a pytest test

    eval: Sequence[str] | None = None
    out: str | Path | None = None
    out_item: str | None = None
    format_only: bool = False
    show_dir: str | Path | None = None
    show_score_thr: float = 0.3
    show_max: int = 50
    tta: bool = False
    half: str | bool | None = None
    dtype: str | None = None

    def __post_init__(self) -> None:
        self.out = str(self.out) if self.out else None
        self.show_dir = str(self.show_dir) if self.show_dir else None


@keep_files()
def test(config: str | Path | Config, checkpoint: str | Path, options: TestOptions) -> dict[str, Any]:
    """Evaluate a checkpoint and return the metrics.

    Raises:
        UserError: Anything that the user can fix, in one line.
    """
    asked, option = asked_dtype(options.dtype, options.half)
    cfg = load_session_config(config, options)
    check_output_path('--work-dir', cfg.work_dir, is_folder=True)
    apply_test_options(cfg, checkpoint, options)
    with user_errors(cfg):
        if not options.skip_preflight:
            preflight(cfg, ['test'])
        if options.tta:
            use_flip_tta(cfg)
        if options.out or options.format_only:
            Path(options.out or result_prefix(cfg, options)).parent.mkdir(parents=True, exist_ok=True)
        runner = build_runner(cfg)
        if _prediction_file(options).endswith(('.pkl', '.pickle')):
            runner.test_evaluator.metrics.append(_dump(cfg, _prediction_file(options)))
        dtype = inference_dtype(asked, training_device(), option)
        predict_in(runner.model, dtype, training_device())
        if asked != 'fp32':
            runner.logger.info(f'predicting in {name_of(dtype)}')
        with ended_data_workers(runner):
            metrics = runner.test()
        barrier()
        if is_main_process():
            if options.out and options.out_item == 'metrics':
                _write_metrics(metrics, options.out)
            _report_files(cfg, options)
    finish()
    return metrics


def apply_test_options(cfg: Config, checkpoint: str | Path, options: TestOptions) -> None:
    """Write the options into ``cfg``.

    Raises:
        UserError: Unknown metric or item, wrong suffix of ``--out``, or no COCO metric where one is needed.
    """
    if cfg.get('test_dataloader') is None or cfg.get('test_evaluator') is None:
        raise UserError(f'{cfg.filename} has no test_dataloader and test_evaluator; add them')
    cfg.load_from = str(checkpoint if scheme_of(checkpoint) in STORES else find_checkpoint(checkpoint))
    for key in ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler',
                'val_dataloader', 'val_cfg', 'val_evaluator'):
        cfg[key] = None  # the training data need not be available
    cfg.resume = False  # as the config of a resumed training has it
    cfg.custom_hooks = [hook for hook in cfg.get('custom_hooks') or [] if type_name(hook) not in _TRAINING_HOOKS]
    if not isinstance(cfg.get('test_cfg'), dict):
        cfg.test_cfg = dict()
    if options.eval is not None:
        set_metrics(cfg, options.eval)
    _check_out_item(options)
    out = _prediction_file(options)
    endings = ('.pkl', '.pickle', '.json', '.csv') if is_classifier(cfg) else ('.pkl', '.pickle', '.json')
    if out and not out.endswith(endings):
        raise UserError(f'--out {options.out}: write .pkl (predictions in the format of mmengine), .json (COCO '
                        'results; for a classifier all scores) or, for a classifier, .csv')
    if options.out:
        check_output_path('--out', options.out, is_folder=False)
    if options.show_dir:
        check_output_path('--show-dir', options.show_dir, is_folder=True)
    if is_classifier(cfg):
        if options.format_only:
            raise UserError('--format-only is for detectors; a classifier writes --out FILE.csv')
        if out.endswith(('.json', '.csv')):
            cfg.test_evaluator = [*as_list(cfg.test_evaluator), dict(type='ClassPredictionFile', out_file=out)]
    elif options.format_only or out.endswith('.json'):
        coco = _coco_evaluators(cfg)
        if not coco:
            raise UserError('--out F.json and --format-only need a CocoMetric in test_evaluator; use --out F.pkl')
        coco[0].outfile_prefix = result_prefix(cfg, options)
        coco[0].format_only = bool(options.format_only)
    if options.show_dir:
        add_hook(cfg, dict(type='PredictionImageHook', out_dir=options.show_dir, score_thr=options.show_score_thr,
                           max_images=options.show_max))


def _check_out_item(options: TestOptions) -> None:
    if options.out_item is None:
        return
    if options.out_item not in ('metrics', 'pred'):
        raise UserError(f'--out-item {options.out_item}: choose from metrics, pred')
    if not options.out:
        raise UserError(f'--out-item {options.out_item} says what --out writes; give --out FILE as well')
    if options.out_item == 'metrics' and options.format_only:
        raise UserError('--format-only computes no metrics; remove it or --out-item metrics')
    if options.out_item == 'metrics' and not options.out.endswith(_METRIC_FILES):
        raise UserError(f'--out {options.out}: metrics are written as .json, .yaml or .pkl')


def _prediction_file(options: TestOptions) -> str:
    """Return the file that the predictions are written to, empty for none."""
    return '' if options.out_item == 'metrics' else str(options.out or '')


def _write_metrics(metrics: dict[str, Any], path: str) -> None:
    is_text = not path.endswith(('.pkl', '.pickle'))
    dump({name: value.tolist() if is_text and hasattr(value, 'tolist') else value for name, value in metrics.items()},
         path)
    print(f'metrics: {path}', flush=True)


def set_metrics(cfg: Config, metrics: Sequence[str]) -> None:
    """Evaluate ``metrics`` instead of those in ``test_evaluator``; an empty list changes nothing.

    Raises:
        UserError: A metric that the evaluator does not support.
    """
    if not metrics:
        return
    if is_classifier(cfg):
        cfg.test_evaluator = _class_evaluators(cfg, [metric.replace('_', '-').lower() for metric in metrics])
        return
    evaluators = _coco_evaluators(cfg)
    for metric in metrics if evaluators else ():
        if metric not in COCO_METRICS:
            raise UserError(f'--eval {metric}: choose from {", ".join(COCO_METRICS)}{suggest(metric, COCO_METRICS)}')
    for evaluator in evaluators or as_list(cfg.test_evaluator):
        evaluator.metric = list(metrics) if evaluators else metrics[0]


def _class_evaluators(cfg: Config, metrics: Sequence[str]) -> list[dict]:
    for metric in metrics:
        if metric not in _CLASS_METRICS:
            raise UserError(f'--eval {metric}: choose from {", ".join(_CLASS_METRICS)}'
                            f'{suggest(metric, _CLASS_METRICS)}')
    evaluators: list[dict] = []
    if 'accuracy' in metrics:
        own = [each for each in as_list(cfg.test_evaluator) if type_name(each).endswith('Accuracy')]
        topk = (1, min(5, (cfg.model.get('head') or {}).get('num_classes', 5)))
        evaluators += own or [dict(type='mmpretrain.Accuracy', topk=topk)]
    if items := [metric for metric in metrics if metric != 'accuracy']:
        evaluators.append(dict(type='ClassMeans', items=items))
    return evaluators


def _dump(cfg: Config, path: str):
    if is_classifier(cfg):
        from mmengine.evaluator import DumpResults
        return DumpResults(out_file_path=path)
    from mmdet.evaluation import DumpDetResults
    return DumpDetResults(out_file_path=path)


def result_prefix(cfg: Config, options: TestOptions) -> str:
    """Return the path of the COCO result files without their suffix, for ``--out F.json`` and ``--format-only``."""
    out = _prediction_file(options)
    if out.endswith('.json'):
        return out.removesuffix('.json')
    own = next((each.get('outfile_prefix') for each in _coco_evaluators(cfg)), None)
    return own or os.path.join(cfg.work_dir, 'results')


def use_flip_tta(cfg: Config) -> None:
    """Wrap the model and the test pipeline for test-time augmentation by horizontal flip.

    ``tta_model`` and ``tta_pipeline`` of the config take precedence.

    Raises:
        UserError: The test pipeline packs nothing, or ``tta_model`` does not support the masks of the model.
    """
    if type_name(cfg.get('tta_model')) == 'DetTTAModel' and _has_mask_part(cfg.model):
        raise UserError('--tta: tta_model=DetTTAModel of mmdet does not support masks, which the model predicts; leave '
                        "out tta_model, or set its type to 'FlipTTAModel' with nms and max_per_img")
    datasets = [dataset for _, dataset in split_datasets(cfg, 'test')]
    if cfg.get('tta_pipeline') is None:
        steps = copy.deepcopy(list(datasets[0].pipeline))
        flip_at = next((index for index, step in enumerate(steps) if type_name(step) in _AFTER_FLIP), None)
        if flip_at is None:
            raise UserError('--tta: the test pipeline has no PackDetInputs or PackInputs; write tta_pipeline into the '
                            'config')
        after = steps[flip_at:]
        if type_name(after[-1]).endswith('PackDetInputs'):
            after[-1]['meta_keys'] = (*META_KEYS, 'flip', 'flip_direction')
        flips = [dict(type='RandomFlip', prob=probability) for probability in (0.0, 1.0)]
        cfg.tta_pipeline = steps[:flip_at] + [
            dict(type='TestTimeAug', transforms=[flips, *[[step] for step in after]])]
    if cfg.get('tta_model') is None and is_classifier(cfg):
        cfg.tta_model = dict(type='mmpretrain.AverageClsScoreTTA')
    elif cfg.get('tta_model') is None:
        cfg.tta_model = flip_tta_config(cfg.model)
    for dataset in datasets:
        dataset.pipeline = cfg.tta_pipeline
    add_hook(cfg, dict(type='PrepareTTAHook', tta_cfg=cfg.tta_model))


def _has_mask_part(section: dict) -> bool:
    """Return whether a config of a model has a head or a loss of masks."""
    return any('mask' in key or _has_mask_part(value) for key, value in section.items() if isinstance(value, dict))


def _coco_evaluators(cfg: Config) -> list[ConfigDict]:
    return [each for each in as_list(cfg.test_evaluator) if is_coco_metric(each)]


def _report_files(cfg: Config, options: TestOptions) -> None:
    out = _prediction_file(options)
    if not is_classifier(cfg) and (options.format_only or out.endswith('.json')):
        written = [f'{result_prefix(cfg, options)}.{kind}.json' for kind in ('bbox', 'segm')]
        written = [path for path in written if os.path.isfile(path)]
        if out and written:  # the last one is complete: box, score, class and, if predicted, mask
            with open(written[-1], 'rb') as source:
                write_atomically(out, lambda file: shutil.copyfileobj(source, file))
            written.append(out)
        print('results: ' + ', '.join(written), flush=True)
    elif out:
        print(f'predictions: {out}', flush=True)
    if options.show_dir:
        print(f'images: {os.path.abspath(options.show_dir)}', flush=True)
