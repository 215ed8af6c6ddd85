"""ViTDet and other strong backbones for mmdetection and mmpretrain.

``import vitdet_plugin`` registers every class of the package and adapts the OpenMMLab stack to this machine
(:mod:`vitdet_plugin.compat`). ``custom_imports=dict(imports=['vitdet_plugin'])`` in a config does the same.

Importing a submodule, as in ``from vitdet_plugin.backbones.vitdet import ViTDet``, does neither. It imports what the
submodule needs and patches nothing, so that a backbone is usable as a plain ``nn.Module``. Registration then follows
when the process starts to use the stack:

* mmdet or mmpretrain has already been imported: at once;
* mmdet or mmpretrain is imported later: directly after it (a finder on ``sys.meta_path`` waits for that);
* a subpackage that needs the stack is imported (``engine``, ``heads``, ...): its ``__init__`` calls `register_all`;
* :func:`vitdet_plugin.config.loading.load_config` calls `register_all`.

This also covers spawned data workers, which import submodules while they unpickle a data set. A process that uses
mmengine without mmdet and mmpretrain, and has imported a submodule first, calls `register_all` itself.
"""

import sys
import warnings
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

__version__ = '0.1.0'
__all__ = ['__version__', 'register_all']

_STACK = ('mmdet', 'mmpretrain')


def register_all() -> None:
    """Adapt the stack and register every class of the package.

    The work is the body of one module, so the import system does it once per process, lets other threads wait for it
    and repeats it after a failure. A call from within registration returns at once.

    Raises:
        vitdet_plugin.errors.UserError: The installed versions of the stack cannot work together.
    """
    import_module(f'{__name__}.registration')


class _StackFinder(MetaPathFinder):
    """Calls `register_all` after the first import of mmdet or mmpretrain, then removes itself."""

    def __init__(self) -> None:
        self._loading: set[str] = set()

    def find_spec(self, fullname: str, path=None, target=None) -> ModuleSpec | None:
        if fullname not in _STACK:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _StackLoader(spec.loader, self)
                return spec
        return None

    def load(self, module: ModuleType, loader: Loader) -> None:
        """Execute ``module``, then register unless another package of the stack is still being imported."""
        self._loading.add(module.__name__)
        try:
            loader.exec_module(module)
        finally:
            self._loading.discard(module.__name__)
        if self._loading or self not in sys.meta_path:
            return
        sys.meta_path.remove(self)
        try:
            register_all()
        except Exception as error:  # the import of mmdet itself succeeded; load_config raises the error again
            warnings.warn(f'vitdet_plugin did not register its classes: {error}', stacklevel=2)


class _StackLoader(Loader):
    """Delegates to the real loader of a package, which replaces this one once the package is loaded."""

    def __init__(self, loader: Loader, finder: _StackFinder) -> None:
        self._loader, self._finder = loader, finder

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__.loader = module.__loader__ = self._loader
        self._finder.load(module, self._loader)

    def __getattr__(self, name: str):
        return getattr(self._loader, name)


def _is_submodule_import() -> bool:
    """Whether this package is being imported as the parent of one of its submodules.

    Python imports a parent package while it looks up the submodule, and the name of the submodule is a local variable
    of the calling frame (in importlib for an import, in runpy for ``python -m``). Without such a frame, the package
    itself is being imported.
    """
    variables = {'<frozen importlib._bootstrap>': 'name', '<frozen runpy>': 'mod_name'}
    frame = sys._getframe()
    while frame is not None:
        variable = variables.get(frame.f_code.co_filename)
        if variable and str(frame.f_locals.get(variable)).startswith(f'{__name__}.'):
            return True
        frame = frame.f_back
    return False


if _is_submodule_import() and not any(name in sys.modules for name in _STACK):
    sys.meta_path.insert(0, _StackFinder())
else:
    register_all()
