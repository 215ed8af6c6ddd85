"""Simulate that packages are not installed; for the subprocesses of tests/test_imports.py."""

import sys

STACK = ('mmdet', 'mmcv', 'mmpretrain')
HEAVY = (*STACK, 'matplotlib', 'skimage', 'sklearn', 'cv2', 'shapely')


class _Finder:
    """A finder of ``sys.meta_path`` that does not find some packages."""

    def __init__(self, finder, names: tuple[str, ...]) -> None:
        self._finder, self._names = finder, names

    def find_spec(self, fullname, path=None, target=None):
        return None if fullname.partition('.')[0] in self._names else self._finder.find_spec(fullname, path, target)

    def __getattr__(self, name: str):
        return getattr(self._finder, name)


def block(*names: str) -> None:
    """Let every later import of these packages fail."""
    for name in [name for name in sys.modules if name.partition('.')[0] in names]:
        del sys.modules[name]
    sys.meta_path[:] = [_Finder(finder, names) for finder in sys.meta_path]
