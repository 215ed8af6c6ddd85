"""Comparison of an observed training with the expected one: a tolerance for each kind of quantity."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests.parity.goldens import Case, Verdict

BOX_TOLERANCE = 1e-3  # pixels
LOSS_TOLERANCES = {(0, 1): 1e-5, (1, 3): 1e-4, (3, None): 1e-3}  # relative, by steps
SUM_TOLERANCE = 1e-5  # relative
NORM_TOLERANCE = 1e-4  # relative; of gradients and weights
UPDATE_TOLERANCE = 1e-2  # relative to the norm of the update
NOISE_FACTOR = 3  # of the effect of rounding on detectron2's own weights
FACTOR_TOLERANCE = 1e-9  # of learning rate factors, which are written with 16 digits


def compare(seen: dict[str, Any], case: Case) -> Verdict:
    """Compare each tensor of a case with the observed one; a quantity that was not observed fails."""
    verdict = Verdict()
    _compare_parameter_table(verdict, seen['param_groups'], case.config['param_groups'])
    for key, value in case.expected.items():
        if key.startswith('noise.'):
            continue
        ours = seen.get(key)
        if ours is None or (ours.shape != value.shape and not _is_roi(key)):
            verdict.add(key, float('inf'), 0.0)
        elif key.startswith('loss.') or key == 'gradnorm_steps':
            _compare_steps(verdict, key, ours, value)
        elif key.startswith('real.loss'):
            _compare_relative(verdict, key, ours, value, SUM_TOLERANCE)
        elif '.param.' in key:
            _compare_parameter(verdict, key, ours, value, case.expected)
        elif _is_roi(key):
            _compare_rois(verdict, key, seen, case.expected)
        elif key.endswith('.boxes'):
            verdict.add(key, _largest(ours - value), BOX_TOLERANCE)
        elif key.endswith('.logits'):
            verdict.compare(key, ours, value)
        elif key.startswith('mask_target'):
            _compare_mask_targets(verdict, key, seen, case.expected)
        else:
            verdict.add(key, int((ours != value).sum()), 0.0)
    return verdict


def _compare_parameter_table(verdict: Verdict, ours: dict, expected: dict) -> None:
    wrong = expected.keys() ^ ours.keys()
    wrong |= {name for name in expected.keys() & ours.keys()
              if abs(ours[name][0] - expected[name][0]) > FACTOR_TOLERANCE or ours[name][1] != expected[name][1]}
    verdict.add('param_groups' + ''.join(f' {name}' for name in sorted(wrong)[:3]), len(wrong), 0.0)


def _compare_steps(verdict: Verdict, key: str, ours: Tensor, value: Tensor) -> None:
    for (start, end), tolerance in LOSS_TOLERANCES.items():
        if start < len(value):
            relative = (ours - value).abs() / value.abs().clamp(min=1e-12)
            verdict.add(f'{key}[{start}:{"" if end is None else end}]', _largest(relative[start:end]), tolerance)


def _compare_relative(verdict: Verdict, key: str, ours: Tensor, value: Tensor, tolerance: float,
                      noise: float = 0.0) -> None:
    allowed = max(tolerance * value.norm().item(), noise)
    verdict.add(key, (ours - value).norm().item(), allowed)


def _compare_parameter(verdict: Verdict, key: str, ours: Tensor, value: Tensor, expected: dict[str, Tensor]) -> None:
    kind, _, name = key.partition('.param.')
    noise = expected[f'noise.after.param.{name}'].item() if f'noise.after.param.{name}' in expected else 0.0
    if kind == 'after':
        allowed = max(UPDATE_TOLERANCE * expected[f'updatenorm.param.{name}'].item(), NOISE_FACTOR * noise)
        verdict.add(key, (ours - value).norm().item(), allowed)
    elif kind == 'afternorm':
        _compare_relative(verdict, key, ours, value, NORM_TOLERANCE, noise)
    elif kind == 'updatenorm':
        _compare_relative(verdict, key, ours, value, UPDATE_TOLERANCE, noise)
    elif kind.endswith('gradnorm'):
        _compare_relative(verdict, key, ours, value, NORM_TOLERANCE)
    else:
        verdict.compare(key, ours, value)


def _is_roi(key: str) -> bool:
    return key.removeprefix('stage1.').removeprefix('stage2.').startswith('roi')


def _compare_rois(verdict: Verdict, key: str, seen: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Pair the boxes of an image, then compare their sides, labels or objects."""
    name, _, field = key.rpartition('.')
    ours, theirs = seen[f'{name}.boxes'], expected[f'{name}.boxes']
    if ours.shape != theirs.shape:
        verdict.add(key, float('inf'), 0.0)
        return
    paired = _pair(ours, theirs) if name.startswith('stage') else torch.arange(len(ours))
    difference = seen[key][paired] - expected[key]
    verdict.add(key, _largest(difference), BOX_TOLERANCE if field == 'boxes' else 0.0)


def _pair(ours: Tensor, theirs: Tensor) -> Tensor:
    """Index in ``ours`` of the nearest box of each row of ``theirs``, each used once."""
    distance = (theirs[:, None] - ours).abs().amax(-1)
    index = []
    for row in distance:
        nearest = int(row.argmin())
        distance[:, nearest] = float('inf')
        index.append(nearest)
    return torch.tensor(index, dtype=torch.long)


def _compare_mask_targets(verdict: Verdict, key: str, seen: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Compare the targets in the order of their boxes."""
    name = key.removesuffix('.index')
    mine, theirs = seen[f'{name}.index'].argsort(), expected[f'{name}.index'].argsort()
    verdict.add(key, int((seen[key][mine] != expected[key][theirs]).sum()), 0.0)


def _largest(values: Tensor) -> float:
    return values.abs().max().item() if values.numel() else 0.0
