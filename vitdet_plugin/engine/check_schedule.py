"""Check the length of training, its evaluations, the optimizer and the learning rate schedule."""

import numbers
from typing import Any

from mmengine.config import Config

from vitdet_plugin.config.registry import all_registries, as_list, type_name
from vitdet_plugin.config.train_length import train_length
from vitdet_plugin.datasets.checks.findings import Finding
from vitdet_plugin.engine.check_loaders import check_whole_number
from vitdet_plugin.utils.output import warn
from vitdet_plugin.utils.text import suggest

_LONGEST = 2**31 - 1  # mmengine cannot write the remaining time of much longer ones
_WARM_UPS = ('LinearLR', 'ConstantLR', 'WarmupLR', 'LinearParamScheduler', 'ConstantParamScheduler')


def drop_idle_schedulers(cfg: Config) -> None:
    """Remove schedulers that begin when training has ended, which mmengine refuses; one line names them.

    A run that is shortened for a trial (``max_iters=20``) otherwise needs another schedule, too.
    """
    length, by_epoch = train_length(cfg.get('train_cfg') or {})
    schedulers = cfg.get('param_scheduler')
    if not isinstance(schedulers, (list, tuple)) or not isinstance(length, int):
        return
    idle = [index for index, each in enumerate(schedulers) if _counts_epochs(each) == by_epoch
            and _is_number(each.get('begin')) and each['begin'] >= length
            and ('end' not in each or _is_number(each['end']) and each['end'] <= each['begin'])]
    if idle:
        names = ', '.join(f'param_scheduler.{index} ({each.get("type")}, begin={each["begin"]})'
                          for index, each in enumerate(schedulers) if index in idle)
        warn(f'{names}: ignored, because training ends after {length}')
        cfg.param_scheduler = [each for index, each in enumerate(schedulers) if index not in idle]


def check_schedule(cfg: Config) -> list[Finding]:
    """Return findings about ``train_cfg``, ``optim_wrapper``, ``param_scheduler`` and the intervals of hooks."""
    findings = _check_loop(cfg.train_cfg, has_val=cfg.get('val_cfg') is not None)
    length, by_epoch = train_length(cfg.train_cfg)
    findings += _check_optimizer(cfg.optim_wrapper, length if by_epoch is False else None)
    if not isinstance(length, int) or isinstance(length, bool):
        return findings
    schedulers = cfg.get('param_scheduler') or []
    for index, each in enumerate(as_list(schedulers)):
        if isinstance(each, dict):
            key = f'param_scheduler.{index}' if isinstance(schedulers, (list, tuple)) else 'param_scheduler'
            findings += _check_scheduler(key, each, length, by_epoch)
    return findings + _check_hooks(cfg.get('default_hooks') or {}, length, by_epoch)


def _check_loop(train_cfg: dict, has_val: bool) -> list[Finding]:
    length, by_epoch = train_length(train_cfg)
    if by_epoch is None:
        return []
    key, other = ('max_epochs', 'max_iters') if by_epoch else ('max_iters', 'max_epochs')
    unit = 'epochs' if by_epoch else 'iterations'
    findings: list[Finding] = []
    if train_cfg.get('type') is not None and train_cfg.get('by_epoch') not in (None, by_epoch):
        return [Finding('error', f'train_cfg.type={train_cfg["type"]} and train_cfg.by_epoch={train_cfg["by_epoch"]} '
                                 'contradict each other; remove by_epoch')]
    if other in train_cfg:
        loop = 'IterBasedTrainLoop' if by_epoch else 'EpochBasedTrainLoop'
        findings.append(Finding('error', f'train_cfg.{other}: the loop counts {unit}; set {key} instead and remove '
                                         f'{other}, or set type={loop!r}'))
    elif key not in train_cfg:
        findings.append(Finding('error', f'train_cfg has no {key!r}; add the number of {unit}'))
    if key in train_cfg:
        whole = int(length) if isinstance(length, float) and length.is_integer() else length
        findings += check_whole_number(f'train_cfg.{key}', whole, 1)
        if not findings and whole > _LONGEST:
            findings.append(Finding('error', f'train_cfg.{key}={length}: give a whole number up to {_LONGEST}'))
    if not has_val:
        return findings
    findings += check_whole_number('train_cfg.val_interval', train_cfg.get('val_interval', 1), 1)
    begin = train_cfg.get('val_begin', 1)
    if not findings and _is_number(begin) and begin > length:
        findings.append(Finding('warning', f'train_cfg.val_begin={begin}, but training ends after {length} {unit}: '
                                           'nothing is evaluated during training'))
    return findings


def _check_optimizer(wrapper: Any, iterations: int | None) -> list[Finding]:
    if not isinstance(wrapper, dict):
        return []
    findings: list[Finding] = []
    optimizer = wrapper.get('optimizer')
    if optimizer is None and 'constructor' not in wrapper:  # a constructor can use other keys
        return [Finding('error', "optim_wrapper has no 'optimizer'; add dict(type='AdamW', lr=1e-4)")]
    kind = optimizer.get('type') if isinstance(optimizer, dict) else None
    known = {name for registry in all_registries() if registry.name == 'optimizer' for name in registry.module_dict}
    if isinstance(kind, str) and '.' not in kind and kind not in known:  # with a scope it may not be imported yet
        findings.append(Finding('error', f'optim_wrapper.optimizer.type={kind}: there is no such optimizer'
                                         f'{suggest(kind, known)}'))
    for key in ('lr', 'weight_decay') if isinstance(optimizer, dict) else ():
        value = optimizer.get(key)
        if key in optimizer and (not _is_number(value) or not 0 <= value < float('inf')):
            findings.append(Finding('error', f'optim_wrapper.optimizer.{key}={value!r}: give a number of at least 0'))
        elif key == 'lr' and value == 0:
            findings.append(Finding('warning', 'optim_wrapper.optimizer.lr=0: the weights do not change'))
    clip = wrapper.get('clip_grad')
    norm = clip.get('max_norm') if isinstance(clip, dict) else None
    if norm is not None and not (_is_number(norm) and norm > 0):
        findings.append(Finding('error', f'optim_wrapper.clip_grad.max_norm={norm!r}: give a number above 0, or '
                                         'clip_grad=None'))
    steps = wrapper.get('accumulative_counts', 1)
    findings += check_whole_number('optim_wrapper.accumulative_counts', steps, 1)
    if isinstance(steps, int) and isinstance(iterations, int) and steps > iterations > 0:
        findings.append(Finding('warning', f'optim_wrapper.accumulative_counts={steps}, but training has {iterations} '
                                           'iterations: the weights change once, at the end'))
    return findings


def _check_scheduler(key: str, scheduler: dict, length: int, by_epoch: bool | None) -> list[Finding]:
    own, kind = _counts_epochs(scheduler), type_name(scheduler)
    begin, end = scheduler.get('begin', 0), scheduler.get('end')
    unit = 'epochs' if own else 'iterations'
    if _is_number(begin) and _is_number(end) and end <= begin:
        return [Finding('error', f'{key} ({kind}): end={end} is not greater than begin={begin}; correct them')]
    if own and by_epoch is False:
        return [Finding('warning', f'{key} ({kind}) counts epochs, the default, and training counts iterations: it '
                                   'never changes the learning rate; set by_epoch=False and its lengths in iterations')]
    if own != by_epoch:
        return []
    late = [each for each in scheduler.get('milestones') or () if _is_number(each) and each > length]
    if late:
        return [Finding('warning', f'{key}.milestones {late} are after the end of training, {length} {unit}: the '
                                   'learning rate is not reduced there')]
    if kind in _WARM_UPS and begin == 0 and _is_number(end) and end > length:
        return [Finding('warning', f'{key} ({kind}) ends at {end}, after the end of training, {length} {unit}: the '
                                   'learning rate does not reach its full value')]
    return []


def _check_hooks(hooks: dict, length: int, by_epoch: bool | None) -> list[Finding]:
    findings: list[Finding] = []
    for name in ('checkpoint', 'logger'):
        interval = (hooks.get(name) or {}).get('interval', 1)
        if not _is_number(interval) or interval % 1 != 0:
            findings.append(Finding('error', f'default_hooks.{name}.interval={interval!r}: give a whole number'))
    checkpoint = hooks.get('checkpoint') or {}
    interval, own = checkpoint.get('interval', -1), checkpoint.get('by_epoch', True)
    if findings or not checkpoint or by_epoch is None:
        return findings
    if checkpoint.get('save_last', True):
        if own and by_epoch is False and interval > 0:
            findings.append(Finding('warning', 'default_hooks.checkpoint counts epochs, the default, and training '
                                               'counts iterations: the only checkpoint is saved at the end; set '
                                               'by_epoch=False and interval in iterations'))
    elif interval <= 0 or own == by_epoch and interval > length:
        findings.append(Finding('warning', f'default_hooks.checkpoint: interval={interval} and save_last=False save no '
                                           f'checkpoint in a training of {length}'))
    return findings


def _counts_epochs(scheduler: dict) -> bool:
    return bool(scheduler.get('by_epoch', True)) and not scheduler.get('convert_to_iter_based')


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
