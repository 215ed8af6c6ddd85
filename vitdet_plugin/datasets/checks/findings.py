"""The result of a check before a run, and the check of class names that all data sets share."""

import os
from collections.abc import Sequence
from typing import NamedTuple

_NAMES_SHOWN = 100


class Finding(NamedTuple):
    """One line of the pre-flight check; an ``error`` stops the run, a ``warning`` does not."""

    level: str
    text: str


def listed(names: Sequence[str]) -> str:
    """Return names in quotes and brackets, with their number if there are more than three."""
    shown = ', '.join(repr(name) for name in names[:_NAMES_SHOWN])
    return f'[{shown}{", …" if len(names) > _NAMES_SHOWN else ""}] ({len(names)})' if len(names) > 3 else f'[{shown}]'


def check_metainfo(path: str, cfg: dict) -> list[Finding]:
    """Check for forms of ``metainfo.classes`` that mmdet interprets in an unexpected way.

    Args:
        path: Key of the data set in the config, for the findings.
        cfg: Config of the data set.
    """
    metainfo = cfg.get('metainfo') or {}
    if 'classes' not in metainfo and 'CLASSES' in metainfo:
        return [Finding('error', f"{path}.metainfo: 'CLASSES' is the key of mmdet 2 and has no effect; write "
                                 "'classes'")]
    classes = metainfo.get('classes')
    if isinstance(classes, str) and not os.path.isfile(classes):
        if os.path.splitext(classes)[1] in ('.txt', '.names', '.csv') or os.sep in classes:
            return [Finding('error', f'{path}.metainfo.classes: the file {os.path.abspath(classes)} does not exist; '
                                     'give a text file with one name per line, or a list of names')]
        return [Finding('error', f'{path}.metainfo.classes is the text {classes!r}, not a list of names; write a '
                                 f'single class as ({classes!r},) with the comma')]
    return []
