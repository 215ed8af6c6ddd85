"""Constructor arguments of a small model of each backbone."""

import copy


def small_cfg(cls: type) -> dict:
    """Return a copy of ``cls.small``, where ``cls`` is a backbone."""
    return copy.deepcopy(dict(cls.small))
