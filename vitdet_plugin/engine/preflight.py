"""Checks before a run starts: errors that would stop it later, found in seconds, one line each."""

import contextlib
import logging
import os
import shutil
from collections.abc import Sequence
from typing import Any

from mmengine.config import Config
from mmengine.dist import broadcast_object_list, get_rank
from torch import nn

from vitdet_plugin.backbones.base import Backbone
from vitdet_plugin.checkpoints.fetching import local_file, present_file
from vitdet_plugin.checkpoints.published import is_name
from vitdet_plugin.compat.remote_files import is_remote
from vitdet_plugin.config.dataset_config import dataset_classes, split_datasets
from vitdet_plugin.config.explain import explain
from vitdet_plugin.config.registry import as_list, is_sharding, model_config, type_name
from vitdet_plugin.datasets.checks.across_splits import check_across_splits
from vitdet_plugin.datasets.checks.class_folders import (
    check_folder_dataset,
    check_topk,
    folder_classes,
    is_folder_dataset,
)
from vitdet_plugin.datasets.checks.detection_data import check_dataset, suggest_slash
from vitdet_plugin.datasets.checks.evaluated_file import check_evaluators, check_repeated_images, evaluates_masks
from vitdet_plugin.datasets.checks.findings import Finding, listed
from vitdet_plugin.datasets.checks.pipelines import check_pipelines
from vitdet_plugin.engine.check_box_losses import check_box_losses
from vitdet_plugin.engine.check_class_counts import check_class_counts
from vitdet_plugin.engine.check_cls_head import check_cls_head, check_cls_loss
from vitdet_plugin.engine.check_loaders import check_loaders
from vitdet_plugin.engine.check_monitored import check_monitored
from vitdet_plugin.engine.check_schedule import check_custom_keys, check_schedule
from vitdet_plugin.engine.check_weights import (
    build_without_memory,
    check_file,
    check_keys,
    check_official,
    is_official,
    weight_files,
)
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.output import suppress_logs
from vitdet_plugin.utils.paths import existing_folder
from vitdet_plugin.utils.text import format_bytes

_NEEDED = {'train': ('train_dataloader', 'train_cfg', 'optim_wrapper'),
           'val': ('val_dataloader', 'val_cfg', 'val_evaluator'),
           'test': ('test_dataloader', 'test_cfg', 'test_evaluator')}


def preflight(cfg: Config, splits: Sequence[str] = ('train', 'val'), resume: str | None = None) -> None:
    """Check a config, its data, weights and disk before a run; warnings are printed, errors collected.

    In a distributed run rank 0 checks for all. Only the model is built, on the meta device.

    Args:
        cfg: Complete config with ``work_dir``; not changed.
        splits: Which of train, val, test will run; ``val`` only counts if the config has it.
        resume: Checkpoint that the run resumes from, if any.

    Raises:
        UserError: All errors, one per line; on every rank.
    """
    shared: list[Any] = [None]
    if get_rank() == 0:
        shared = [[tuple(finding) for finding in inspect_config(cfg, splits, resume)]]
    else:
        _wait_for_names(cfg)
    broadcast_object_list(shared)
    findings = [Finding(*pair) for pair in shared[0]]
    if get_rank() == 0:
        for finding in findings:
            if finding.level == 'warning':
                print(f'warning: {finding.text}', flush=True)
    errors = [finding.text for finding in findings if finding.level == 'error']
    if len(errors) == 1:
        raise UserError(errors[0])
    if errors:
        raise UserError('\n'.join([f'Found {len(errors)} problems to fix before this can run (--skip-preflight starts '
                                   'anyway):', *(f'  {number}. {text}' for number, text in enumerate(errors, 1))]))


def inspect_config(cfg: Config, splits: Sequence[str], resume: str | None = None) -> list[Finding]:
    """Return all findings of the pre-flight, each text once."""
    findings = _check_sections(cfg, splits)
    if findings:
        return findings
    findings = check_loaders(cfg, splits) + check_pipelines(cfg, splits)
    findings += check_schedule(cfg) if 'train' in splits else []
    data_findings, classes = _check_data(cfg, splits)
    findings += data_findings
    findings += check_class_counts(cfg, classes)
    if 'train' in splits and 'val' in splits:
        findings += check_monitored(cfg)
    model, model_findings = _build(cfg)
    findings += model_findings + check_cls_head(cfg, model) + check_box_losses(model) + _check_masks(cfg, model, splits)
    findings += _check_weights(cfg, model, splits, resume)
    if 'train' in splits:
        findings += check_cls_loss(model) + check_custom_keys(cfg, model) + check_disk(cfg, model)
    return list(dict.fromkeys(findings))


def _wait_for_names(cfg: Config) -> None:
    """Wait until rank 0 has downloaded weights given by name or URL, which may exceed the timeout of a broadcast.

    On another machine, download them. Errors are reported by rank 0.
    """
    for entry in weight_files(cfg) if isinstance(cfg.get('model'), dict) else ():
        if is_name(entry.file) or is_remote(entry.file):
            with contextlib.suppress(UserError):
                local_file(entry.file)


def _check_sections(cfg: Config, splits: Sequence[str]) -> list[Finding]:
    name = cfg.filename or 'config'
    if 'data' in cfg and 'train_dataloader' not in cfg:
        return [Finding('error', f'{name} is a config of mmdet 2 or EasyCV ("data = dict(…)"); mmdet 3 requires '
                                 'train_dataloader, optim_wrapper and train_cfg: start from the config vitdet_100e')]
    if is_sharding(cfg):
        averaging = [kind for hook in cfg.get('custom_hooks') or [] if (kind := type_name(hook)).endswith('EMAHook')]
        if averaging and 'train' in splits:
            return [Finding('error', f'{name}: {averaging[0]} averages whole weights, but under FSDP each rank has '
                                     'only parts of them; remove the hook or the strategy')]
    needed = ['model', *(key for split in splits if split != 'val' for key in _NEEDED[split])]
    return [Finding('error', f'{name} has no {key!r}; inherit it: _base_ = [… _base_/…]')
            for key in needed if cfg.get(key) is None]


def _check_data(cfg: Config, splits: Sequence[str]) -> tuple[list[Finding], list[str]]:
    """Return findings about all data sets in use, and the class names of the first one."""
    findings: list[Finding] = []
    classes: list[str] = []
    for split in splits:
        leaves = list(split_datasets(cfg, split))
        for path, dataset in leaves:
            check = check_folder_dataset if is_folder_dataset(dataset) else check_dataset
            findings += check(path, dataset, is_training=split == 'train')
            own = dataset_classes(dataset) or (folder_classes(dataset) if is_folder_dataset(dataset) else [])
            classes = classes or own
            if own and own != classes:
                findings.append(Finding('error', f'{path}: other classes than in the first data set of this config: '
                                                 f'{listed(own)}; first: {listed(classes)}'))
        evaluators = cfg.get(f'{split}_evaluator') or []
        findings += check_topk(f'{split}_evaluator', evaluators, classes)
        findings += check_evaluators(split, evaluators, leaves)
        if split != 'train':
            findings += check_repeated_images(split, evaluators, (cfg.get(f'{split}_dataloader') or {}).get('dataset'))
        for each in as_list(evaluators):
            ann_file = each.get('ann_file') if isinstance(each, dict) else None
            if not ann_file or '://' in ann_file or os.path.isfile(ann_file):
                continue
            if not any(os.path.abspath(ann_file) in finding.text for finding in findings):  # not reported yet
                hint = (suggest_slash(ann_file, [dataset for _, dataset in leaves])
                        or 'it is usually that of the data set')
                findings.append(Finding('error', f'{split}_evaluator.ann_file: {os.path.abspath(ann_file)} '
                                                 f'{"is a folder" if os.path.isdir(ann_file) else "does not exist"}; '
                                                 f'{hint}'))
    return findings + check_across_splits(cfg, splits), classes


def _check_masks(cfg: Config, model: nn.Module | None, splits: Sequence[str]) -> list[Finding]:
    """Report evaluators of masks if no part of the model predicts masks."""
    if model is None or any('mask' in name.lower() or 'mask' in type(part).__name__.lower()
                            for name, part in model.named_modules() if name):
        return []
    return [Finding('error', f'{split}_evaluator: the model predicts no masks, so segm cannot be evaluated; use --eval '
                             f"bbox in a test, or set {split}_evaluator.metric to 'bbox'")
            for split in splits if evaluates_masks(cfg.get(f'{split}_evaluator'))]


def _build(cfg: Config) -> tuple[nn.Module | None, list[Finding]]:
    """Build the model on the meta device, or return findings; (None, []) if only that device is not supported."""
    from mmengine.registry import init_default_scope
    init_default_scope(cfg.get('default_scope') or 'mmdet')
    try:
        with suppress_logs(logging.WARNING):  # the runner logs the same when it builds the model
            return build_without_memory(model_config(cfg)), []
    except UserError as error:
        return None, [Finding('error', str(error))]
    except Exception as error:
        line = explain(error, cfg)
        return None, [Finding('error', line)] if line else []


def _check_weights(cfg: Config, model: nn.Module | None, splits: Sequence[str],
                   resume: str | None) -> list[Finding]:
    findings: list[Finding] = []
    is_test = 'train' not in splits
    files = list(weight_files(cfg))
    if resume or is_test:  # load_from replaces the weights of init_cfg
        files = [entry for entry in files if entry[0] == 'load_from']
    for key, file, submodule, prefix, options in files:
        missing = check_file(key, file)
        findings += missing
        if missing or model is None or present_file(file) is None:
            continue
        try:
            target = model.get_submodule(submodule)
        except AttributeError:  # part of a wrapper with other names of submodules
            continue
        try:
            if prefix is None or isinstance(target, Backbone) or (not resume and is_official(file, target)):
                findings += check_official(key, file, target, is_test, options)
            else:
                findings += check_keys(key, file, target, prefix, must_fit=is_test or bool(resume))
        except Exception as error:
            findings.append(Finding('error', str(error) if isinstance(error, UserError) else
                                    f'{key}: checkpoint {file} cannot be read: '
                                             f'{" ".join(str(error).split()) or type(error).__name__}'))
    return findings


def check_disk(cfg: Config, model: nn.Module | None) -> list[Finding]:
    """Compare the free space at ``work_dir`` with the size of future checkpoints (weights and two moments each)."""
    folder = existing_folder(cfg.get('work_dir') or '.')
    if not os.access(folder, os.W_OK):
        return [Finding('error', f'work_dir: {folder} is not writable; choose another --work-dir')]
    note = os.path.join(folder, 'last_checkpoint')
    if os.path.isdir(note):
        return [Finding('error', f'work_dir: {note} is a folder, but a training writes a file of this name; remove it '
                                 'or choose another --work-dir')]
    weights = sum(value.numel() * value.element_size() for value in model.state_dict().values()) if model else 0
    trained = sum(value.numel() * value.element_size() for value in model.parameters()) if model else 0
    one = weights + 2 * trained
    hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    kept = hook.get('max_keep_ckpts', -1)
    number = max(1, kept + 1 if kept > 0 else _saved_checkpoints(cfg, hook)) + bool(hook.get('save_best'))
    free = shutil.disk_usage(folder).free
    if free < max(one, 2**20):
        return [Finding('error', f'work_dir: {format_bytes(free)} free at {folder}, but one checkpoint takes '
                                 f'{format_bytes(one)}; free space or choose another --work-dir')]
    if free < one * number:
        return [Finding('warning', f'work_dir: {format_bytes(free)} free at {folder} for {number} checkpoints of '
                                   f'{format_bytes(one)}; set default_hooks.checkpoint.max_keep_ckpts')]
    return []


def _saved_checkpoints(cfg: Config, hook: dict) -> int:
    length = cfg.train_cfg.get('max_epochs') or cfg.train_cfg.get('max_iters') or 1
    by_epoch = hook.get('by_epoch', True)
    if by_epoch and 'max_epochs' not in cfg.train_cfg:
        return 1  # an iteration-based loop is one epoch
    return int(length // max(1, hook.get('interval', 1)))
