"""``tools/test.py``: evaluate a checkpoint, write predictions and pictures."""

import copy
import os
import shutil
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.dist import barrier, is_main_process

from vitdet_plugin.config.explain import user_errors
from vitdet_plugin.config.registry import is_classifier
from vitdet_plugin.engine.inference import find_checkpoint
from vitdet_plugin.engine.preflight import preflight
from vitdet_plugin.engine.session import add_hook, build_runner, finish, load_session_config
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.kept_files import keep_files
from vitdet_plugin.utils.paths import check_output_path
from vitdet_plugin.utils.text import suggest

_COCO_METRICS = ('bbox', 'segm', 'proposal')  # mmdet's proposal_fast does not work with NumPy 2
_TRAINING_HOOKS = ('EarlyStoppingHook',)  # these insist on a training loop
_AFTER_FLIP = ('Pad', 'LoadAnnotations', 'PackDetInputs', 'PackInputs')
_CLASS_METRICS = ('accuracy', 'precision', 'recall', 'f1-score', 'support')


@keep_files()
def test(args: Namespace) -> dict[str, Any]:
    """Evaluate as ``tools/test.py`` is asked to; returns the metrics.

    Raises:
        UserError: Anything that the user can mend, in one line.
    """
    cfg = load_session_config(args)
    check_output_path('--work-dir', cfg.work_dir, is_folder=True)
    apply_test_arguments(cfg, args)
    with user_errors(cfg):
        if not args.skip_preflight:
            preflight(cfg, ['test'])
        if args.tta:
            use_flip_tta(cfg)
        if args.out or args.format_only:
            Path(args.out or result_prefix(cfg, args)).parent.mkdir(parents=True, exist_ok=True)
        runner = build_runner(cfg)
        if args.out and args.out.endswith(('.pkl', '.pickle')):
            runner.test_evaluator.metrics.append(_dump(cfg, args.out))
        metrics = runner.test()
        barrier()
        if is_main_process():
            _report_files(cfg, args)
    finish()
    return metrics


def apply_test_arguments(cfg: Config, args: Namespace) -> None:
    """Write the arguments into ``cfg``.

    Raises:
        UserError: Unknown metric, wrong ending of ``--out``, or no COCO metric where one is needed.
    """
    if cfg.get('test_dataloader') is None or cfg.get('test_evaluator') is None:
        raise UserError(f'{cfg.filename} has no test_dataloader and test_evaluator: nothing to test on')
    cfg.load_from = str(find_checkpoint(Path(args.checkpoint))) if os.path.isdir(args.checkpoint) else args.checkpoint
    for key in ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler',
                'val_dataloader', 'val_cfg', 'val_evaluator'):
        cfg[key] = None  # a test needs no training data on this machine
    cfg.custom_hooks = [hook for hook in cfg.get('custom_hooks') or [] if hook['type'] not in _TRAINING_HOOKS]
    if not isinstance(cfg.get('test_cfg'), dict):
        cfg.test_cfg = dict()
    if args.eval is not None:
        set_metrics(cfg, args.eval)
    endings = ('.pkl', '.pickle', '.json', '.csv') if is_classifier(cfg) else ('.pkl', '.pickle', '.json')
    if args.out and not args.out.endswith(endings):
        raise UserError(f'--out {args.out}: write .pkl (predictions as mmengine dumps them), .json (COCO results; of a '
                        'classifier all scores) or, for a classifier, .csv')
    if args.out:
        check_output_path('--out', args.out, is_folder=False)
    if args.show_dir:
        check_output_path('--show-dir', args.show_dir, is_folder=True)
    if is_classifier(cfg):
        if args.format_only:
            raise UserError('--format-only is for detectors; a classifier writes --out FILE.csv')
        if args.out and args.out.endswith(('.json', '.csv')):
            cfg.test_evaluator = [*_evaluators(cfg), dict(type='ClassPredictionFile', out_file=args.out)]
    elif args.format_only or (args.out or '').endswith('.json'):
        coco = _coco_evaluators(cfg)
        if not coco:
            raise UserError('--out F.json and --format-only need a CocoMetric in test_evaluator; use --out F.pkl')
        coco[0].outfile_prefix = result_prefix(cfg, args)
        coco[0].format_only = bool(args.format_only)
    if args.show_dir:
        add_hook(cfg, dict(type='PredictionPictureHook', out_dir=args.show_dir, score_thr=args.show_score_thr,
                           max_pictures=args.show_max))


def set_metrics(cfg: Config, metrics: Sequence[str]) -> None:
    """Evaluate ``metrics`` instead of those in ``test_evaluator``; an empty list changes nothing.

    Raises:
        UserError: A name that the evaluator does not know.
    """
    if not metrics:
        return
    if is_classifier(cfg):
        cfg.test_evaluator = _class_evaluators(cfg, [metric.replace('_', '-').lower() for metric in metrics])
        return
    evaluators = _coco_evaluators(cfg)
    for metric in metrics if evaluators else ():
        if metric not in _COCO_METRICS:
            raise UserError(f'--eval {metric}: choose from {", ".join(_COCO_METRICS)}{suggest(metric, _COCO_METRICS)}')
    for evaluator in evaluators or _evaluators(cfg):
        evaluator.metric = list(metrics) if evaluators else metrics[0]


def _class_evaluators(cfg: Config, metrics: Sequence[str]) -> list[dict]:
    for metric in metrics:
        if metric not in _CLASS_METRICS:
            raise UserError(f'--eval {metric}: choose from {", ".join(_CLASS_METRICS)}'
                            f'{suggest(metric, _CLASS_METRICS)}')
    evaluators: list[dict] = []
    if 'accuracy' in metrics:
        own = [each for each in _evaluators(cfg) if str(each.get('type')).endswith('Accuracy')]
        topk = (1, min(5, (cfg.model.get('head') or {}).get('num_classes', 5)))
        evaluators += own or [dict(type='mmpretrain.Accuracy', topk=topk)]
    if items := [metric for metric in metrics if metric != 'accuracy']:
        evaluators.append(dict(type='mmpretrain.SingleLabelMetric', items=items))
    return evaluators


def _dump(cfg: Config, path: str):
    if is_classifier(cfg):
        from mmengine.evaluator import DumpResults
        return DumpResults(out_file_path=path)
    from mmdet.evaluation import DumpDetResults
    return DumpDetResults(out_file_path=path)


def result_prefix(cfg: Config, args: Namespace) -> str:
    """Path without ending of the COCO result files."""
    return args.out[:-len('.json')] if (args.out or '').endswith('.json') else os.path.join(cfg.work_dir, 'results')


def use_flip_tta(cfg: Config) -> None:
    """Wrap the model and the test pipeline for test-time augmentation by horizontal flip.

    ``tta_model`` and ``tta_pipeline`` of the config win.
    """
    dataset = cfg.test_dataloader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    if cfg.get('tta_pipeline') is None:
        steps = copy.deepcopy(list(dataset.pipeline))
        flip_at = next((index for index, step in enumerate(steps) if step['type'].split('.')[-1] in _AFTER_FLIP), None)
        if flip_at is None:
            raise UserError('--tta: the test pipeline has no PackDetInputs or PackInputs; write tta_pipeline into the '
                            'config')
        after = steps[flip_at:]
        if after[-1]['type'].endswith('PackDetInputs'):
            after[-1]['meta_keys'] = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip',
                                      'flip_direction', 'letterbox_offset')
        flips = [dict(type='RandomFlip', prob=probability) for probability in (0.0, 1.0)]
        cfg.tta_pipeline = steps[:flip_at] + [
            dict(type='TestTimeAug', transforms=[flips, *[[step] for step in after]])]
    if cfg.get('tta_model') is None and is_classifier(cfg):
        cfg.tta_model = dict(type='mmpretrain.AverageClsScoreTTA')
    elif cfg.get('tta_model') is None:
        limits = (cfg.model.get('test_cfg') or {}).get('rcnn') or {}
        cfg.tta_model = dict(type='FlipTTAModel', nms=limits.get('nms', dict(type='nms', iou_threshold=0.5)),
                             max_per_img=limits.get('max_per_img', 100))
    dataset.pipeline = cfg.tta_pipeline
    add_hook(cfg, dict(type='PrepareTTAHook', tta_cfg=cfg.tta_model))


def _evaluators(cfg: Config) -> list[ConfigDict]:
    return list(cfg.test_evaluator) if isinstance(cfg.test_evaluator, (list, tuple)) else [cfg.test_evaluator]


def _coco_evaluators(cfg: Config) -> list[ConfigDict]:
    return [each for each in _evaluators(cfg) if 'Coco' in str(each.get('type')) or 'LVIS' in str(each.get('type'))]


def _report_files(cfg: Config, args: Namespace) -> None:
    if not is_classifier(cfg) and (args.format_only or (args.out or '').endswith('.json')):
        written = [f'{result_prefix(cfg, args)}.{kind}.json' for kind in ('bbox', 'segm')]
        written = [path for path in written if os.path.isfile(path)]
        if args.out and written:  # the last one has everything: box, score, class and, if predicted, mask
            shutil.copyfile(written[-1], args.out)
            written.append(args.out)
        print('results: ' + ', '.join(written), flush=True)
    elif args.out:
        print(f'predictions: {args.out}', flush=True)
    if args.show_dir:
        print(f'pictures: {os.path.abspath(args.show_dir)}', flush=True)
