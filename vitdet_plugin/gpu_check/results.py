"""Results of the parts, and what every part is given."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

OK, FAILED, LEFT_OUT = 'ok', 'FAILED', 'left out'


@dataclass
class Result:
    """One line of the table.

    Attributes:
        name: what was checked or measured.
        status: ``OK``, ``FAILED`` or ``LEFT_OUT``.
        detail: figures, or the reason.
        numbers: the same for programs: milliseconds (``ms``), gibibytes (``gib``), relative errors.
        part: name of the part; set by the caller of the part.
    """

    name: str
    status: str = OK
    detail: str = ''
    numbers: dict[str, Any] = field(default_factory=dict)
    part: str = ''


@dataclass(frozen=True)
class Settings:
    """What every part is given.

    Attributes:
        device: 'cuda', or 'cpu' for tests.
        quick: fewer cases.
        tiny: sizes for tests on a CPU.
        goldens: folder of reference outputs, or None.
        folder: folder for the files of a part.
        seed: of the random inputs; a new one for each run.
    """

    device: str = 'cuda'
    quick: bool = False
    tiny: bool = False
    goldens: Path | None = None
    folder: Path = Path()
    seed: int = 0

    def dumps(self) -> str:
        """Return the settings as JSON."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def loads(cls, text: str) -> Settings:
        """Return the settings that :meth:`dumps` wrote."""
        values = json.loads(text)
        return cls(**{**values, 'folder': Path(values['folder']),
                      'goldens': Path(values['goldens']) if values['goldens'] else None})


def attempt(name: str, action: Callable[..., Result], *arguments: Any) -> Result:
    """Return ``action(*arguments)``, or a failure called ``name`` with the error in one line if it raises."""
    try:
        return action(*arguments)
    except Exception as error:  # any error of a check is its result
        return Result(name, FAILED, f'{type(error).__name__}: {first_lines(str(error))}')


def missing_packages(*names: str) -> str:
    """Return those of the packages that are not installed, separated by commas."""
    missing = []
    for name in names:
        try:
            found = importlib.util.find_spec(name) is not None
        except ModuleNotFoundError:
            found = False
        if not found:
            missing.append(name)
    return ', '.join(missing)


def first_lines(text: str, length: int = 300) -> str:
    """Return the text in one line of limited length."""
    line = ' '.join(text.split())
    return line if len(line) <= length else f'{line[:length]} ...'


def format_table(results: Iterable[Result]) -> str:
    """Return one line for each result, below the name of its part."""
    results = list(results)
    width = max((len(result.name) for result in results), default=0)
    lines, part = [], None
    for result in results:
        if result.part != part:
            part = result.part
            lines.append(part)
        lines.append(f'  {result.name:<{width}}  {result.status:<8}  {result.detail}'.rstrip())
    return '\n'.join(lines)
