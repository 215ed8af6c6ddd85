"""What every check returns."""

import os
from collections.abc import Sequence
from typing import NamedTuple

_NAMES_SHOWN = 100


class Finding(NamedTuple):
    """One line of the pre-flight; an ``error`` stops the run, a ``warning`` does not."""

    level: str
    text: str


def listed(names: Sequence[str]) -> str:
    """Names in quotes and brackets, with their number where they are many."""
    shown = ', '.join(repr(name) for name in names[:_NAMES_SHOWN])
    return f'[{shown}{", …" if len(names) > _NAMES_SHOWN else ""}] ({len(names)})' if len(names) > 3 else f'[{shown}]'


def check_metainfo(path: str, cfg: dict) -> list[Finding]:
    """Spellings of ``metainfo.classes`` that mmdet would take for something else."""
    metainfo = cfg.get('metainfo') or {}
    if 'classes' not in metainfo and 'CLASSES' in metainfo:
        return [Finding('error', f"{path}.metainfo: 'CLASSES' is mmdet 2's spelling, without effect; write 'classes'")]
    classes = metainfo.get('classes')
    if isinstance(classes, str) and not os.path.isfile(classes):
        return [Finding('error', f'{path}.metainfo.classes is the text {classes!r}, not a list of names; one class is '
                                 f'written ({classes!r},) with the comma')]
    return []
