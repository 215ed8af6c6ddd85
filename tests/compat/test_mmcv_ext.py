import importlib
import pkgutil
import subprocess
import sys
from types import ModuleType

import mmcv
import pytest
import torch

from vitdet_plugin.compat import mmcv_ext
from vitdet_plugin.errors import UserError

pytestmark = pytest.mark.skipif(not mmcv_ext.is_stand_in(), reason='this mmcv has compiled operators')


def test_a_missing_operator_is_reported_when_called():
    from mmcv.ops import RoIPool

    with pytest.raises(UserError, match=r'mmcv\._ext\.roi_pool_forward is not available.*build mmcv') as caught:
        RoIPool(2)(torch.zeros(1, 1, 4, 4), torch.tensor([[0., 0., 0., 3., 3.]]))
    assert '\n' not in str(caught.value)


def test_stand_in_has_the_attributes_of_a_module():
    ext = importlib.import_module('mmcv._ext')
    assert ext is mmcv._ext
    assert ext.__spec__.name == 'mmcv._ext'
    assert not hasattr(ext, '__path__')
    assert 'torchvision' in mmcv.ops.get_compiler_version()
    assert isinstance(mmcv.ops.get_compiling_cuda_version(), str)
    assert 'mmcv._ext' not in [m.name for m in pkgutil.iter_modules(mmcv.__path__, 'mmcv.')]


def test_install_again_changes_nothing():
    before = list(sys.meta_path), sys.modules['mmcv._ext']
    mmcv_ext.install()
    assert (list(sys.meta_path), sys.modules['mmcv._ext']) == before


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder on mmcv's path, with the stand-in forgotten for the time of a test."""
    monkeypatch.setattr(mmcv, '__path__', [*mmcv.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, 'mmcv._ext')
    monkeypatch.setattr(mmcv, '_ext', None)
    return tmp_path


def test_a_compiled_extension_is_used_untouched(elsewhere):
    (elsewhere / '_ext.py').write_text('def nms():\n    return "compiled"\n')
    mmcv_ext.install()
    ext = sys.modules['mmcv._ext']
    assert type(ext) is ModuleType
    assert ext.nms() == 'compiled'
    assert not hasattr(ext, 'softnms')


def test_a_broken_extension_gives_one_line(elsewhere):
    (elsewhere / '_ext.py').write_text('raise ImportError("undefined symbol: _ZN3c10\\nmore")\n')
    with pytest.raises(UserError, match='of mmcv do not load with torch .*undefined symbol') as caught:
        mmcv_ext.install()
    assert '\n' not in str(caught.value)


def test_mmcv_cnn_imported_first_gets_the_operators(monkeypatch):
    from mmcv.cnn.bricks import transformer

    attention = transformer.MultiScaleDeformableAttention
    monkeypatch.delattr(transformer, 'MultiScaleDeformableAttention')  # as an import before the stand-in leaves it
    mmcv_ext.install()
    assert transformer.MultiScaleDeformableAttention is attention


def test_mmdet_imported_first_gets_the_operators():
    code = ('import mmdet.structures.mask.structures as masks; early = masks.roi_align; import vitdet_plugin; '
            'from mmcv.ops.roi_align import roi_align; assert masks.roi_align is roi_align is not early')
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True)
    if "No module named 'mmcv._ext'" in done.stderr:
        pytest.skip('upstream mmdet has no placeholders: it cannot be imported before the plugin at all')
    assert done.returncode == 0, done.stderr


def test_mmpretrain_imported_first():
    """It tries to import mmdet, and goes on after the failure."""
    code = ('import mmpretrain.models, vitdet_plugin, mmdet.models.necks.nas_fpn as necks; '
            'from mmcv.ops.merge_cells import SumCell; assert necks.SumCell is SumCell; '
            'from mmcv.ops import sigmoid_focal_loss; from mmdet.models.losses import focal_loss; '
            'assert focal_loss._sigmoid_focal_loss is sigmoid_focal_loss')
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_import_is_silent():
    code = 'import vitdet_plugin, mmdet.models, mmdet.engine, mmcv.ops, mmpretrain.models'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, '', '')
