"""Packages that mmdet imports for a few rare classes only are imported when those are used.

mmdet imports scikit-learn for PAA and a tracker, imgaug for lanes, imagecorruptions and scikit-image for one transform
each; together with numba and scipy.stats, which they import, that is a third of the time of its own import and 110 MB.
While mmdet is imported, stand-ins with the names of these packages are given to it. A stand-in imports the package at
the first use. Afterwards the names import the packages as usual, and other code never receives a stand-in.
"""

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from vitdet_plugin.compat.patching import Patch

_WHY = 'imported when it is used, not with mmdet'
_UPSTREAM = 'mmdet 3.0 to 3.3, onedl-mmdetection 3.5'
_PATCHES = (
    Patch('mmdet.models.dense_heads.paa_head', 'skm', why=_WHY, upstream=_UPSTREAM),
    Patch('mmdet.models.task_modules.tracking.interpolation', 'GPR', why=_WHY, upstream=_UPSTREAM),
    Patch('mmdet.models.task_modules.tracking.interpolation', 'RBF', why=_WHY, upstream=_UPSTREAM),
    Patch('mmdet.datasets.transforms.transforms', 'corrupt', why=_WHY, upstream=_UPSTREAM),
    Patch('mmdet.models.data_preprocessors.data_preprocessor', 'skimage', why=_WHY, upstream=_UPSTREAM),
    Patch('mmdet.datasets.transforms.processors', 'skimage', why=_WHY, upstream='onedl-mmdetection 3.5'),
    Patch('mmdet.datasets.transforms.generate_line', 'iaa', why=_WHY, upstream='onedl-mmdetection 3.5'),
    Patch('mmdet.datasets.transforms.generate_line', 'LineString', why=_WHY, upstream='onedl-mmdetection 3.5'),
    Patch('mmdet.datasets.transforms.generate_line', 'LineStringsOnImage', why=_WHY, upstream='onedl-mmdetection 3.5'),
    Patch('mmdet.datasets.transforms.generate_line', 'SegmentationMapsOnImage', why=_WHY,
          upstream='onedl-mmdetection 3.5'),
)
PACKAGES = ('sklearn', 'imgaug', 'imagecorruptions', 'skimage')


@contextlib.contextmanager
def deferred_imports(packages: Sequence[str] = PACKAGES) -> Iterator[None]:
    """Within this block, imports of these packages return stand-ins, if they are installed and not yet imported.

    Args:
        packages: Names of top-level packages.
    """
    names = frozenset(name for name in packages if name not in sys.modules and importlib.util.find_spec(name))
    finder = _Finder(names)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        finder.is_open = False
        for name, module in list(sys.modules.items()):
            if isinstance(module, DeferredModule) and module.__loader__ is finder:
                del sys.modules[name]
        for patch in _PATCHES:
            value = vars(sys.modules.get(patch.owner, object)).get(patch.name)
            if isinstance(value, (DeferredModule, DeferredName)):
                patch.installed = True


class DeferredModule(ModuleType):
    """A stand-in of a module; attributes are those of the module, which is imported at the first access."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__'):
            raise AttributeError(name)
        loader = self.__loader__
        if isinstance(loader, _Finder) and loader.is_open:
            return DeferredName(self, name)
        return getattr(importlib.import_module(self.__name__), name)


class DeferredName:
    """A stand-in of a function or class, which is imported when it is called or otherwise used."""

    def __init__(self, module: DeferredModule, name: str) -> None:
        self._module, self._name = module, name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._import()(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith('_'):
            raise AttributeError(name)
        return getattr(self._import(), name)

    def __instancecheck__(self, instance: Any) -> bool:
        return isinstance(instance, self._import())

    def __mro_entries__(self, bases: tuple) -> tuple:
        return (self._import(),)

    def _import(self) -> Any:
        if getattr(self._module.__loader__, 'is_open', False):
            raise ImportError(f'{self._module.__name__}.{self._name} is used while mmdet is imported')
        return getattr(self._module, self._name)


class _Finder(MetaPathFinder, Loader):
    def __init__(self, names: frozenset[str]) -> None:
        self._names, self.is_open = names, True

    def find_spec(self, fullname: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        return ModuleSpec(fullname, self, is_package=True) if fullname.partition('.')[0] in self._names else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return DeferredModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Leave the stand-in empty."""
