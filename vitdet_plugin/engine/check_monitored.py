"""Check the metrics that select checkpoints, stop the training or lower the learning rate."""

import inspect
from collections.abc import Iterator
from typing import Any

from mmengine.config import Config
from mmengine.hooks import EarlyStoppingHook

from vitdet_plugin.config.registry import as_list, find_type, is_coco_metric, type_name
from vitdet_plugin.datasets.checks.evaluated_file import coco_metric_names, measured_kinds
from vitdet_plugin.datasets.checks.findings import Finding
from vitdet_plugin.utils.text import suggest


def check_monitored(cfg: Config) -> list[Finding]:
    """Compare ``save_best``, ``monitor`` of early stopping and of schedulers with the metrics of ``val_evaluator``.

    Of evaluators whose metrics are not listed here, only the prefix is compared; of those without one, nothing.
    """
    if type_name(cfg.get('val_cfg')) not in ('', 'ValLoop'):
        return []  # other loops rename metrics: TeacherStudentValLoop has teacher/coco/bbox_mAP
    evaluators = as_list(cfg.get('val_evaluator') or [])
    prefixes = [_prefix(each) for each in evaluators]
    if not all(prefixes):
        return []
    names = [name for evaluator, prefix in zip(evaluators, prefixes) for name in _names(evaluator, prefix)]
    has_loss = any(type_name(hook) == 'ValidationLossHook' for _, hook in _hooks(cfg))
    return [Finding('error', text) for key, metric in _monitored(cfg)
            if (text := _why_not(key, metric, evaluators, names, has_loss))]


def _why_not(key: str, metric: str, evaluators: list[dict], names: list[str], has_loss: bool) -> str | None:
    if not names or any(metric == name or name.endswith('*') and metric.startswith(name[:-1]) for name in names):
        return None
    is_val_loss = metric.startswith('val_') and 'loss' in metric
    if is_val_loss and has_loss:
        return None
    known = ', '.join(sorted(set(names) | ({'val_loss'} if has_loss else set())))
    if is_val_loss:
        return (f'{key}={metric}, but the loss on the validation set is computed with --val-loss only; add --val-loss, '
                f'or set it to one of {known}')
    for kind in ('bbox', 'segm'):
        kinds = {each for evaluator in filter(is_coco_metric, evaluators) for each in measured_kinds(evaluator)}
        if kinds and f'/{kind}_' in f'/{metric}' and kind not in kinds:
            return (f'{key}={metric}, but {kind} is not evaluated: it is not in val_evaluator.metric, or the '
                    f'annotations have no masks; set it to a metric of {", ".join(sorted(kinds))}')
    if any(metric.startswith(f'{_prefix(each)}/') and metric.endswith('_precision')
           for each in filter(is_coco_metric, evaluators)):
        return None  # of one class
    also = ', or to val_loss with --val-loss' if 'loss' in metric and not has_loss else ''
    return f'{key}={metric} is not a metric of val_evaluator{suggest(metric, names)}; set it to one of {known}{also}'


def _monitored(cfg: Config) -> Iterator[tuple[str, str]]:
    """Yield (key in the config, metric) of everything that reads a metric of the evaluation."""
    for key, hook in _hooks(cfg):
        for metric in as_list(hook.get('save_best') or ()):
            if isinstance(metric, str) and metric != 'auto':
                yield f'{key}.save_best', metric
        kind, metric = find_type(hook), hook.get('monitor')
        if isinstance(metric, str) and inspect.isclass(kind) and issubclass(kind, EarlyStoppingHook) \
                and (metric != 'auto' or type_name(hook) != 'PatienceHook'):
            yield f'{key}.monitor', metric
    schedulers = cfg.get('param_scheduler') or ()
    for index, each in enumerate(as_list(schedulers)):
        if type_name(each).startswith('ReduceOnPlateau'):
            key = f'param_scheduler.{index}' if isinstance(schedulers, (list, tuple)) else 'param_scheduler'
            yield f'{key}.monitor', each.get('monitor', 'loss')


def _hooks(cfg: Config) -> Iterator[tuple[str, dict]]:
    hooks = [(f'default_hooks.{name}', hook) for name, hook in (cfg.get('default_hooks') or {}).items()]
    hooks += [(f'custom_hooks[{index}]', hook) for index, hook in enumerate(cfg.get('custom_hooks') or ())]
    return ((key, hook) for key, hook in hooks if isinstance(hook, dict))


def _prefix(evaluator: Any) -> str | None:
    """Return the first part of the names of an evaluator's metrics; None if it is not known."""
    if not isinstance(evaluator, dict):
        return None
    return evaluator.get('prefix') or getattr(find_type(evaluator), 'default_prefix', None)


def _names(evaluator: dict, prefix: str | None) -> list[str]:
    """Return the names of an evaluator's metrics; one that ends with ``*`` stands for all that begin so."""
    if evaluator.get('format_only'):
        return []
    if is_coco_metric(evaluator):
        return [f'{prefix}/{name}' for name in coco_metric_names(evaluator)]
    if type_name(evaluator) == 'Accuracy' and 'thrs' not in evaluator:
        return [f'{prefix}/top{k}' for k in as_list(evaluator.get('topk', 1))]
    return [f'{prefix}/*']
