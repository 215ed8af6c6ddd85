"""Reference figures: running a case of the official implementation through ours and comparing.

A case is a folder with ``case.json`` (kind, constructor arguments in the reference's names), ``weights``, ``inputs``
and ``expected`` as safetensors, weights in the official spelling. A family adds its kinds with :func:`register_kind`
in a module ``golden_<family>.py`` beside this one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from vitdet_plugin.checkpoints.official import convert
from vitdet_plugin.errors import UserError

TOLERANCES = {torch.float32: 1e-4, torch.float64: 1e-9}  # relative to the expected tensor's standard deviation


@dataclass
class Case:
    """One folder of reference figures."""

    path: Path
    kind: str
    config: dict
    weights: dict[str, Tensor]
    inputs: dict[str, Tensor]
    expected: dict[str, Tensor]

    @classmethod
    def read(cls, path: Path) -> Case:
        """Raises UserError naming the file that is missing or broken."""
        try:
            meta = json.loads((path / 'case.json').read_text())
            tensors = {name: load_file(path / f'{name}.safetensors') for name in ('inputs', 'expected')}
            weights = path / 'weights.safetensors'
            return cls(path, meta['kind'], meta['config'], load_file(weights) if weights.exists() else {}, **tensors)
        except Exception as error:
            raise UserError(f'{path} is no complete case: {str(error).splitlines()[0]}') from None


@dataclass
class Verdict:
    """Largest error of each quantity against its tolerance."""

    errors: dict[str, float] = field(default_factory=dict)
    tolerances: dict[str, float] = field(default_factory=dict)

    def add(self, name: str, error: float, tolerance: float) -> None:
        """Note one quantity; an error that is not a number fails."""
        self.errors[name], self.tolerances[name] = error, tolerance

    def compare(self, name: str, ours: Tensor | None, expected: Tensor) -> None:
        """Largest difference relative to the expected values' standard deviation."""
        tolerance = TOLERANCES[expected.dtype]
        if ours is None or ours.shape != expected.shape:
            self.add(name, float('inf'), tolerance)
            return
        if not expected.numel():
            self.add(name, 0.0, tolerance)
            return
        spread = expected.std().item() if expected.numel() > 1 else expected.abs().item()
        difference = (ours.detach().to(expected.dtype) - expected).abs().max().item()
        self.add(name, difference / spread if spread > 0 else difference, tolerance)

    @property
    def worst(self) -> str:
        """The quantity furthest beyond (or nearest to) its tolerance."""
        return max(self.errors, key=lambda name: _share(self.errors[name], self.tolerances[name]))

    @property
    def passed(self) -> bool:
        """All quantities within their tolerances, and at least one compared."""
        return bool(self.errors) and all(error <= self.tolerances[name] for name, error in self.errors.items())


Runner = Callable[[Case], Verdict]
KINDS: dict[str, Runner] = {}


def register_kind(kind: str) -> Callable[[Runner], Runner]:
    """Decorator for the function that runs the cases of one kind."""
    def register(runner: Runner) -> Runner:
        KINDS[kind] = runner
        return runner
    return register


def run_case(path: Path) -> Verdict:
    """Run one folder.

    Raises:
        UserError: the case is incomplete or of an unknown kind.
    """
    case = Case.read(path)
    if case.kind not in KINDS:
        raise UserError(f'{path} is of the kind {case.kind!r}, which is not supported yet; known kinds are '
                        f'{", ".join(sorted(KINDS))}')
    return KINDS[case.kind](case)


def find_cases(root: Path) -> Iterator[Path]:
    """``root`` itself if it is a case, or the cases directly below it."""
    if (root / 'case.json').is_file():
        yield root
    yield from sorted(path.parent for path in root.glob('*/case.json'))


def load_official_weights(model: nn.Module, case: Case) -> dict[str, str]:
    """Load a case's weights as a user would load the official file, every weight of the model and of the case.

    Returns:
        Official parameter names and ours.
    """
    from vitdet_plugin.checkpoints.official import load_official
    report = load_official(model, case.path / 'weights.safetensors', allow_missing=False)
    _, converted = convert(case.weights, set(model.state_dict()), str(case.path))
    if left_out := [name for name in report.dropped if name not in ('pixel_mean', 'pixel_std')]:
        raise UserError(f'{case.path}: weights were left out: {", ".join(left_out)}')
    return {theirs: ours for ours, theirs in converted.origins.items()}


def compare_gradients(verdict: Verdict, model: nn.Module, case: Case, outputs: dict[str, Tensor],
                      inputs: dict[str, Tensor], official_names: dict[str, str]) -> None:
    """Backward from the case's cotangents, then inputs', small parameters' gradients and all parameters' norms.

    Args:
        outputs, inputs: by the names that the case uses behind ``out.`` / ``cotangent.`` and ``grad.``.
        official_names: official parameter names and ours, from :func:`load_official_weights`.

    A case without cotangents has no gradients to compare.
    """
    if not any(key.startswith('cotangent.') for key in case.expected):
        return
    torch.autograd.backward(list(outputs.values()), [case.expected[f'cotangent.{name}'] for name in outputs])
    ours = dict(model.named_parameters())
    for key, value in case.expected.items():
        room, _, name = key.partition('.')
        if room == 'grad' and name in inputs:
            verdict.compare(key, inputs[name].grad, value)
        elif key.startswith(('grad.param.', 'gradnorm.param.')):
            gradient = ours[official_names[key.split('.param.')[1]]].grad
            gradient = torch.zeros(()) if gradient is None else gradient
            if room == 'gradnorm':
                gradient = gradient.norm().reshape(value.shape if value.numel() == 1 else 1)
            verdict.compare(key, gradient.expand(value.shape) if not gradient.ndim else gradient, value)


def _share(error: float, tolerance: float) -> float:
    return float('inf') if error != error else error / tolerance
