"""Run cases of official implementations with the models of this project and compare the outputs.

A case is a folder with ``case.json`` (the kind and the constructor arguments of the reference) and the safetensors
files ``weights`` (official key names), ``inputs`` and ``expected``. Each model family registers its kinds with
:func:`register_kind` in a module of this package.
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

TOLERANCES = {torch.float32: 1e-4, torch.float64: 1e-9}  # relative to the standard deviation of the expected tensor


@dataclass
class Case:
    """A case: inputs and expected outputs of an official implementation."""

    path: Path
    kind: str
    config: dict
    weights: dict[str, Tensor]
    inputs: dict[str, Tensor]
    expected: dict[str, Tensor]

    @classmethod
    def read(cls, path: Path) -> Case:
        """Read a case from its folder.

        Raises:
            UserError: If a file is missing or broken.
        """
        try:
            meta = json.loads((path / 'case.json').read_text())
            tensors = {name: load_file(path / f'{name}.safetensors') for name in ('inputs', 'expected')}
            weights = path / 'weights.safetensors'
            return cls(path, meta['kind'], meta['config'], load_file(weights) if weights.exists() else {}, **tensors)
        except Exception as error:
            raise UserError(f'{path} is not a complete case: {str(error).splitlines()[0]}') from None


@dataclass
class Verdict:
    """Result of a case: the maximum error and the tolerance of each compared quantity."""

    errors: dict[str, float] = field(default_factory=dict)
    tolerances: dict[str, float] = field(default_factory=dict)

    def add(self, name: str, error: float, tolerance: float) -> None:
        """Add the error of one quantity; NaN counts as a failure."""
        self.errors[name], self.tolerances[name] = error, tolerance

    def compare(self, name: str, ours: Tensor | None, expected: Tensor) -> None:
        """Add the maximum difference of two tensors, relative to the standard deviation of the expected one."""
        tolerance = TOLERANCES[expected.dtype]
        if ours is None or ours.shape != expected.shape:
            self.add(name, float('inf'), tolerance)
            return
        if not expected.numel():
            self.add(name, 0.0, tolerance)
            return
        spread = expected.std().item() if expected.numel() > 1 else expected.abs().item()
        difference = (ours.detach().to(expected) - expected).abs().max().item()
        self.add(name, difference / spread if spread > 0 else difference, tolerance)

    @property
    def worst(self) -> str:
        """Name of the quantity with the largest ratio of error to tolerance."""
        return max(self.errors, key=lambda name: _ratio(self.errors[name], self.tolerances[name]))

    @property
    def passed(self) -> bool:
        """Whether at least one quantity was compared and all are within their tolerances."""
        return bool(self.errors) and all(error <= self.tolerances[name] for name, error in self.errors.items())


Runner = Callable[[Case], Verdict]
KINDS: dict[str, Runner] = {}


def register_kind(kind: str) -> Callable[[Runner], Runner]:
    """Register the decorated function as the one that runs cases of a kind."""
    def register(runner: Runner) -> Runner:
        KINDS[kind] = runner
        return runner
    return register


def run_case(path: Path, device: str = 'cpu') -> Verdict:
    """Run the case in a folder.

    Args:
        path: Its folder.
        device: Where the model and the inputs are.

    Raises:
        UserError: If the case is incomplete or its kind is unknown.
    """
    case = Case.read(path)
    if case.kind not in KINDS:
        raise UserError(f'{path}: unknown kind {case.kind!r}. Supported kinds: {", ".join(sorted(KINDS))}.')
    for tensors in (case.inputs, case.expected):
        tensors.update({name: x.to(device) for name, x in tensors.items()})
    with torch.device(device):  # where models are built
        return KINDS[case.kind](case)


def find_cases(root: Path) -> Iterator[Path]:
    """Yield ``root`` if it is a case, and the cases directly inside it."""
    if (root / 'case.json').is_file():
        yield root
    yield from sorted(path.parent for path in root.glob('*/case.json'))


def load_official_weights(model: nn.Module, case: Case) -> dict[str, str]:
    """Load all weights of a case in the same way as an official checkpoint.

    Returns:
        A mapping from official parameter names to the names of this project.

    Raises:
        UserError: If the model or the case has weights that the other one lacks.
    """
    from vitdet_plugin.checkpoints.official import load_official
    report = load_official(model, case.path / 'weights.safetensors', allow_missing=False)
    _, converted = convert(case.weights, set(model.state_dict()), str(case.path))
    if unused := [name for name in report.dropped if name not in ('pixel_mean', 'pixel_std')]:
        raise UserError(f'{case.path}: weights that the model lacks: {", ".join(unused)}')
    return {theirs: ours for ours, theirs in converted.origins.items()}


def compare_model(model: nn.Module, case: Case, outputs: dict[str, Tensor], inputs: dict[str, Tensor],
                  official_names: dict[str, str]) -> Verdict:
    """Compare the outputs of a model, and its gradients as :func:`compare_gradients` does."""
    verdict = Verdict()
    for name, out in outputs.items():
        verdict.compare(f'out.{name}', out, case.expected[f'out.{name}'])
    compare_gradients(verdict, model, case, outputs, inputs, official_names)
    return verdict


def compare_gradients(verdict: Verdict, model: nn.Module, case: Case, outputs: dict[str, Tensor],
                      inputs: dict[str, Tensor], official_names: dict[str, str]) -> None:
    """Run backward with the cotangents of the case and compare the gradients.

    Compared are the gradients of the inputs and small parameters, and the gradient norms of all parameters. A case
    without cotangents has no gradients to compare.

    Args:
        verdict: Result to which the errors are added.
        model: The model.
        case: The case.
        outputs: Outputs by their names in the case, without ``out.``.
        inputs: Inputs by their names in the case, without ``grad.``.
        official_names: Names from :func:`load_official_weights`.
    """
    if not any(key.startswith('cotangent.') for key in case.expected):
        return
    cotangents = [case.expected[f'cotangent.{name}'].to(out) for name, out in outputs.items()]
    torch.autograd.backward(list(outputs.values()), cotangents)
    ours = dict(model.named_parameters())
    for key, value in case.expected.items():
        prefix, _, name = key.partition('.')
        if prefix == 'grad' and name in inputs:
            verdict.compare(key, inputs[name].grad, value)
        elif key.startswith(('grad.param.', 'gradnorm.param.')):
            gradient = ours[official_names[key.split('.param.')[1]]].grad
            gradient = torch.zeros(()) if gradient is None else gradient
            if prefix == 'gradnorm':
                gradient = gradient.norm().reshape(value.shape if value.numel() == 1 else 1)
            verdict.compare(key, gradient.expand(value.shape) if not gradient.ndim else gradient, value)


def _ratio(error: float, tolerance: float) -> float:
    if error != error or not tolerance:
        return float('inf') if error else 0.0
    return error / tolerance
