"""Loads the compiled operators of this package. Importing this never fails."""

from __future__ import annotations

from vitdet_plugin.ops.library import OPS, Library

LIBRARY = Library('ops', 'vitdet_plugin.ops', OPS)
#: kind -> why it is not loaded; None if it is
STATUS = LIBRARY.load()
