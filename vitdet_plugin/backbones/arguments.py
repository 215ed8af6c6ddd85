"""Arguments that several backbones have: checks, whose errors are one line that names the argument, and rates."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.arguments import is_whole


def check_choice(name: str, value: Any, known: Iterable[Any]) -> None:
    """Raise ``UserError`` if a value is not one of those known."""
    known = list(known)
    if value not in known:
        raise UserError(f'{name}={value!r} is unknown; choose one of {", ".join(map(str, known))}')


def drop_path_rates(last: float, depth: int, first: float = 0.0) -> list[float]:
    """Return the rates of stochastic depth of all blocks, from ``first`` to ``last`` in equal steps."""
    return [first + (last - first) * i / max(depth - 1, 1) for i in range(depth)]


def ends_of_quarters(depth: int) -> list[int]:
    """Return the index of the last block of each quarter of the depth: the blocks with global attention in ViTDet."""
    return [max(0, depth * quarter // 4 - 1) for quarter in (1, 2, 3, 4)]


def choose_arch(arch: Any, archs: Mapping[str, Mapping[str, Any]], required: Collection[str],
                optional: Collection[str] = ()) -> dict[str, Any]:
    """Return the sizes that an argument ``arch`` stands for.

    Args:
        arch: A key of ``archs``, or a dict of sizes.
        archs: The sizes of each name.
        required: Keys that the sizes have.
        optional: Keys that they may have.

    Raises:
        UserError: The name is unknown, or the dict has other keys.
    """
    if not isinstance(arch, Mapping):
        if not isinstance(arch, str) or arch not in archs:
            raise UserError(f'arch={arch!r} is unknown; choose one of {", ".join(archs)} or give a dict')
        arch = archs[arch]
    if not set(required) <= set(arch) <= {*required, *optional}:
        accepts = f' and accepts {", ".join(optional)}' if optional else ''
        raise UserError(f'arch requires the keys {", ".join(required)}{accepts}; it has '
                        f'{", ".join(map(str, arch)) or "none"}')
    return dict(arch)


def check_frozen_stages(value: Any, count: int, what: str) -> None:
    """Raise ``UserError`` if ``frozen_stages`` is not a whole number from -1 to ``count``, the number of ``what``."""
    if not isinstance(value, int) or not -1 <= value <= count:
        raise UserError(f'frozen_stages={value!r} must be from -1 to {count}, the number of {what}')


def image_sides(img_size: Any, least: int) -> tuple[int, int]:
    """Return height and width of an argument ``img_size``: a side, or both.

    Raises:
        UserError: It is something else, or a side is less than ``least`` pixels.
    """
    sides = tuple(img_size) if isinstance(img_size, (list, tuple)) else (img_size, img_size)
    if len(sides) != 2 or not all(is_whole(side) and side >= least for side in sides):
        raise UserError(f'img_size={img_size!r} must be a whole number of at least {least}, or (height, width)')
    return sides


def check_out_indices(value: Any, count: int) -> tuple[int, ...]:
    """Return ``out_indices`` as a tuple.

    Raises:
        UserError: They are not ascending numbers from 0 to ``count`` - 1, or there are none.
    """
    indices = tuple(value) if isinstance(value, Sequence) else ()
    if not indices or not all(isinstance(i, int) and 0 <= i < count for i in indices) \
            or list(indices) != sorted(set(indices)):
        raise UserError(f'out_indices={value!r} must be ascending numbers from 0 to {count - 1}')
    return indices
