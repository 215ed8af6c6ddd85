"""Packages of a few classes of mmdet are imported when they are used; other imports never receive a stand-in."""

import subprocess
import sys

import pytest

from vitdet_plugin.compat.deferred_imports import DeferredModule, DeferredName, deferred_imports

PACKAGE = 'package_that_is_deferred'


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package with a module, a class and a function, which is not yet imported."""
    (tmp_path / PACKAGE).mkdir()
    (tmp_path / PACKAGE / '__init__.py').write_text('def double(x):\n    return 2 * x\n')
    (tmp_path / PACKAGE / 'shapes.py').write_text('class Box:\n    side = 3\n')
    monkeypatch.syspath_prepend(tmp_path)
    yield PACKAGE
    for name in [name for name in sys.modules if name.startswith(PACKAGE)]:
        del sys.modules[name]


def test_names_and_modules_are_imported_at_their_first_use(package):
    with deferred_imports([package]):
        import package_that_is_deferred as whole
        import package_that_is_deferred.shapes as shapes
        from package_that_is_deferred import double
        from package_that_is_deferred.shapes import Box
        assert isinstance(shapes, DeferredModule) and isinstance(double, DeferredName)
        with pytest.raises(ImportError, match='double is used while mmdet is imported'):
            double(2)
    assert package not in sys.modules
    assert double(2) == 4 and whole.double(3) == 6
    assert shapes.Box.side == Box.side == 3 and isinstance(Box(), Box)

    class Child(Box):
        pass

    import package_that_is_deferred.shapes as real
    assert not isinstance(real, DeferredModule) and issubclass(Child, real.Box)
    with pytest.raises(AttributeError):
        whole.triple  # noqa: B018


def test_a_missing_or_imported_package_is_not_deferred(package):
    import package_that_is_deferred as real
    with deferred_imports([package, 'package_that_does_not_exist']):
        import package_that_is_deferred as again
        with pytest.raises(ModuleNotFoundError):
            import package_that_does_not_exist  # noqa: F401
    assert again is real and again.double(1) == 2


def test_mmdet_uses_the_packages_when_it_needs_them():
    pytest.importorskip('sklearn')
    code = ('import sys, vitdet_plugin\n'
            'assert not {"sklearn", "imgaug", "numba", "scipy.stats"} & set(sys.modules)\n'
            'from mmdet.models.dense_heads import paa_head\n'
            'print(paa_head.skm.GaussianMixture(2).n_components)\n'
            'import sklearn; assert sklearn.__file__\n'
            'from vitdet_plugin.compat import report\n'
            'print([each.installed for each in report() if each.target.endswith("paa_head.skm")])\n')
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True)
    assert done.stdout == '2\n[True]\n', done.stderr
