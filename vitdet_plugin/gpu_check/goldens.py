"""Part ``goldens``: the models against reference outputs of the official implementations, if a folder is given."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from vitdet_plugin.gpu_check.operators import exact_float32
from vitdet_plugin.gpu_check.results import FAILED, LEFT_OUT, OK, Result, Settings, attempt

#: Least tolerance on a GPU, also of cases in float64.
ROUNDING = 2e-6


def run(settings: Settings) -> Iterator[Result]:
    """Yield one result for each case; requires a source checkout, which holds ``tests/parity``."""
    checkout = Path(str(resources.files('vitdet_plugin'))).resolve().parent
    if settings.goldens is None:
        yield Result('goldens', LEFT_OUT, 'no folder is given (--goldens)')
        return
    if not (checkout / 'tests' / 'parity' / 'goldens.py').is_file():
        yield Result('goldens', LEFT_OUT, 'requires a source checkout, which holds the code for the cases')
        return
    sys.path.insert(0, str(checkout))
    try:
        import tests.parity  # noqa: F401  registers the kinds of cases
        from tests.parity import goldens
    except ModuleNotFoundError as error:
        yield Result('goldens', LEFT_OUT, f'{error.name} is not installed')
        return
    for path in goldens.find_cases(settings.goldens):
        yield attempt(path.name, compare, path, settings.device)


def compare(path: Path, device: str) -> Result:
    """Run one case; tables that the models compute in float32 differ by rounding from those of a CPU."""
    from tests.parity import goldens
    with exact_float32():
        verdict = goldens.run_case(path, device)
    if device != 'cpu':
        verdict.tolerances = {name: max(each, ROUNDING) for name, each in verdict.tolerances.items()}
    worst = verdict.worst
    detail = f'{worst}: error {verdict.errors[worst]:.1e}, tolerance {verdict.tolerances[worst]:.0e}'
    return Result(path.name, OK if verdict.passed else FAILED, detail)
