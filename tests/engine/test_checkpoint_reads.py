"""Each checkpoint file is read once by a load, a resume or a test run."""

import os
import shutil
import zipfile

import pytest
import torch
from mmengine.registry import init_default_scope

from tests.end_to_end.tiny_set import CONFIG, load_tool
from vitdet_plugin.utils.kept_files import drop_kept_files, is_keeping, keep_files, read_once

SHORT = ['--cfg-options', 'train_cfg.max_epochs=2', 'val_cfg=None', 'val_dataloader=None', 'val_evaluator=None']


@pytest.fixture
def reads(monkeypatch):
    """Names of the files whose data is read: by torch, by safetensors, or to verify checksums."""
    import safetensors.torch
    names = []

    def count(owner, attribute, file_of):
        original = getattr(owner, attribute)

        def counted(*args, **kwargs):
            names.append(os.path.basename(file_of(args[0])))
            return original(*args, **kwargs)
        monkeypatch.setattr(owner, attribute, counted)

    count(torch, 'load', lambda file: getattr(file, 'name', file))
    count(safetensors.torch, 'load_file', lambda file: file)
    count(zipfile.ZipFile, 'testzip', lambda archive: archive.filename)
    return names


@pytest.fixture(scope='module')
def trained(tiny_set, tmp_path_factory):
    """Work directory of a run of one epoch."""
    work_dir = tmp_path_factory.mktemp('work') / 'run'
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('TINY_SET', str(tiny_set))
        assert load_tool('train').main([str(CONFIG), '--work-dir', str(work_dir), *SHORT[:1], 'train_cfg.max_epochs=1',
                                        *SHORT[2:]]) == 0
    return work_dir


@pytest.fixture
def data(tiny_set, monkeypatch):
    monkeypatch.setenv('TINY_SET', str(tiny_set))


def train(*arguments):
    assert load_tool('train').main([str(CONFIG), *arguments, *SHORT]) == 0


def test_load_model_from_a_file_and_from_a_folder(trained, data, reads):
    from vitdet_plugin.api import Inferencer
    for checkpoint in (trained / 'epoch_1.pth', trained):
        reads.clear()
        Inferencer.load(CONFIG, checkpoint, 'cpu')
        assert reads == ['epoch_1.pth']
    assert not is_keeping()


@pytest.mark.parametrize('weights', ['ours', 'official'])
def test_load_from(trained, data, tmp_path, reads, write_mae, weights):
    path = write_mae()[0] if weights == 'official' else str(trained / 'epoch_1.pth')
    reads.clear()
    train('--work-dir', str(tmp_path / 'work'), '--load-from', path)
    assert reads.count(os.path.basename(path)) == 1
    assert (tmp_path / 'work/epoch_2.pth').is_file() and 'epoch_2.pth' not in reads  # verified when it was saved


@pytest.mark.parametrize('name', ['auto', 'given'])
def test_resume_verifies_and_loads_in_one_read(trained, data, tmp_path, reads, name):
    work_dir = tmp_path / 'work'
    shutil.copytree(trained, work_dir)
    damaged = bytearray((work_dir / 'epoch_1.pth').read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (work_dir / 'epoch_9.pth').write_bytes(damaged)  # newer, and skipped
    (work_dir / 'last_checkpoint').unlink()
    train('--work-dir', str(work_dir), '--resume', *([str(work_dir / 'epoch_1.pth')] if name == 'given' else []))
    assert reads.count('epoch_1.pth') == 1 and reads.count('epoch_9.pth') == (name == 'auto')
    assert torch.load(work_dir / 'epoch_2.pth', weights_only=False)['meta']['epoch'] == 2


def test_test(trained, data, tmp_path, reads):
    assert load_tool('test').main([str(CONFIG), str(trained / 'epoch_1.pth'), '--work-dir', str(tmp_path)]) == 0
    assert reads == ['epoch_1.pth']


def test_one_file_of_several_submodules(tiny_config, write_mae, reads):
    """Pre-flight and initialization share the read; nothing is kept once the weights are loaded."""
    from vitdet_plugin.engine.preflight import inspect_config
    from vitdet_plugin.engine.runners import build_runner
    init_default_scope('mmdet')
    path, weights = write_mae()
    tiny_config.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=path)
    with keep_files():
        assert inspect_config(tiny_config, ['train']) == []
        runner = build_runner(tiny_config)
        runner._init_model_weights()
        assert is_keeping()
        runner.load_or_resume()
        assert not is_keeping()
    assert reads == ['mae_32.pth']
    assert runner.model.state_dict()['backbone.blocks.1.mlp.fc2.bias'].equal(weights['blocks.1.mlp.fc2.bias'])


def test_changed_files_are_read_again_and_dropped_files_are_not_kept(tmp_path):
    path, calls = tmp_path / 'a', []

    def read():
        calls.append(path.read_text())
        return calls[-1]

    path.write_text('one')
    assert read_once(path, read) == read_once(path, read) == 'one' and len(calls) == 2
    with keep_files():
        assert read_once(path, read) == read_once(path, read) == 'one' and len(calls) == 3
        assert read_once(path, read, is_checked=True) == 'one' and len(calls) == 4  # a verified read is required
        assert read_once(path, read) == 'one' and len(calls) == 4
        path.write_text('three')
        with keep_files():
            assert read_once(path, read) == 'three' and len(calls) == 5
        assert read_once(path, read) == 'three' and len(calls) == 5
        drop_kept_files()
        assert read_once(path, read) == read_once(path, read) and len(calls) == 7
    assert not is_keeping()
