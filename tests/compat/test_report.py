"""Patches are installed once, listed, and fail with one line if upstream has moved the replaced attribute."""

import functools
import re
import subprocess
import sys
import types

import mmengine
import pytest

from vitdet_plugin import compat
from vitdet_plugin.compat import patching
from vitdet_plugin.compat.patching import Patch, with_globals
from vitdet_plugin.errors import UserError


@pytest.fixture
def owner(monkeypatch):
    """A module ``upstream_for_tests`` with a function; patches declared in a test are removed from the report."""
    module = types.ModuleType('upstream_for_tests')
    module.double = lambda x: 2 * x
    module.__version__ = '1.2'
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(patching, '_PATCHES', [])
    return module


def add_one(function):
    @functools.wraps(function)
    def wrapped(*args):
        return function(*args) + 1
    return wrapped


def declare(owner='upstream_for_tests', name='double'):
    return Patch(owner, name, why='returns too little', upstream='upstream 1')


def test_patch_is_listed_and_installed_once(owner):
    patch = declare()
    assert patching.records() == [('upstream_for_tests.double', 'returns too little', 'upstream 1', False)]
    for _ in range(2):
        patch.install(add_one)
        assert owner.double(3) == 7
    assert patching.records()[0].installed


def test_wrappers_of_others_are_not_mistaken_for_a_patch(owner):
    owner.double = add_one(owner.double)
    declare().install(add_one)
    assert owner.double(3) == 8


def test_a_patch_below_the_wrapper_of_others_is_recognized(owner):
    patch = declare()
    patch.install(add_one)
    owner.double = add_one(owner.double)
    patch.install(add_one)
    assert owner.double(3) == 8


def test_an_instance_is_patched_alone(owner):
    class Upstream:
        def double(self, x):
            return 2 * x

    owner.Upstream = Upstream
    one, other = Upstream(), Upstream()
    declare('upstream_for_tests.Upstream').install(add_one, one)
    assert (one.double(3), other.double(3)) == (7, 6)


@pytest.mark.parametrize(('path', 'name'), [
    ('upstream_for_tests', 'triple'), ('upstream_for_tests.Class', 'double'), ('mmengine.runner.gone', 'f'),
    ('mmengine.runner.Runner', 'gone')])
def test_a_moved_target_is_one_line(owner, path, name):
    version = '1.2' if path.startswith('upstream') else mmengine.__version__
    package = path.partition('.')[0]
    with pytest.raises(UserError, match=rf'^{package} {re.escape(version)} has no {re.escape(path)}\.{name}, which '
                                        r'vitdet_plugin replaces \(returns too little\): install .*\(upstream 1\)$'):
        declare(path, name).install(add_one)


def test_a_missing_package_is_not_reported_as_moved(owner):
    with pytest.raises(ModuleNotFoundError):
        declare('package_that_does_not_exist.module').install(add_one)


def square_sum(values, *, start=0):
    return sum((square(x) for x in values), start)


def square(x):
    return x * x


def test_with_globals_leaves_the_function_unchanged():
    counted = with_globals(square_sum, sum=lambda values, start: start + len(list(values)))
    assert counted([2, 3], start=1) == 3
    assert square_sum([2, 3], start=1) == 14
    with pytest.raises(UserError, match=r'square_sum no longer uses cube, which vitdet_plugin replaces there: install'):
        with_globals(square_sum, cube=square)


def test_report_lists_every_patch():
    compat.install()
    records = compat.report()
    targets = [record.target for record in records]
    assert targets == sorted(set(targets))
    assert all(record.why and record.upstream for record in records)
    installed = {record.target for record in records if record.installed}
    assert {'mmengine.dist.utils._init_dist_pytorch', 'mmengine.model.MMDistributedDataParallel.__init__',
            'mmengine.runner.checkpoint.load_url', 'mmengine.runner.checkpoint.save_checkpoint',
            'mmdet.models.task_modules.prior_generators.AnchorGenerator.grid_priors'} <= installed
    assert {'mmengine.optim.OptimWrapper.update_params', 'mmengine.optim.OptimWrapper._clip_grad',
            'torch.utils.data.DataLoader.batch_sampler'} <= set(targets)


def test_module_prints_the_report():
    done = subprocess.run([sys.executable, '-W', 'ignore', '-m', 'vitdet_plugin.compat'], capture_output=True,
                          text=True)
    assert (done.returncode, done.stderr) == (0, '')
    assert re.search(r'^mmengine\.runner\.save_checkpoint\n    why: .*\n    upstream: .*\n    installed: yes$',
                     done.stdout, re.MULTILINE)
