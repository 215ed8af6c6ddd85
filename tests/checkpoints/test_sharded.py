"""Folders of torch.distributed.checkpoint: round trip, and files that are not plain data."""

import os
import pickle

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from vitdet_plugin.checkpoints.sharded import load_sharded, save_sharded
from vitdet_plugin.errors import UserError


class Hostile:
    """An object that creates a file when it is unpickled in full."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.fixture
def saved(tmp_path):
    dist.init_process_group('gloo', store=dist.HashStore(), rank=0, world_size=1)
    mesh = init_device_mesh('cpu', (1,))
    value = torch.arange(6.0).view(3, 2)
    save_sharded(dict(state=dict(a=distribute_tensor(value, mesh, [Shard(0)]), b=value + 1), names=['x', ('y', 2)]),
                 tmp_path / 'epoch_1.pth')
    yield tmp_path / 'epoch_1.pth'
    dist.destroy_process_group()


def test_round_trip(saved):
    assert [each.name for each in saved.parent.iterdir()] == ['epoch_1.pth']
    found = load_sharded(saved)
    assert torch.equal(found['state']['a'], torch.arange(6.0).view(3, 2)) and found['names'] == ['x', ('y', 2)]
    assert torch.equal(found['state']['b'], found['state']['a'] + 1)


def test_code_in_the_description_is_refused(saved, tmp_path):
    (saved / '.metadata').write_bytes(pickle.dumps(Hostile(tmp_path / 'executed')))
    with pytest.raises(UserError, match='not plain data; nothing of it was executed'):
        load_sharded(saved)
    assert not (tmp_path / 'executed').exists()


def test_entries_that_are_not_tensors_are_refused(saved):
    metadata = pickle.loads((saved / '.metadata').read_bytes())
    from torch.distributed.checkpoint.metadata import BytesStorageMetadata
    metadata.state_dict_metadata = {'/state/a': BytesStorageMetadata()}  # torch unpickles these in full
    (saved / '.metadata').write_bytes(pickle.dumps(metadata))
    with pytest.raises(UserError, match='BytesStorageMetadata, which is not plain data'):
        load_sharded(saved)


def test_files_outside_of_the_folder_are_refused(saved):
    metadata = pickle.loads((saved / '.metadata').read_bytes())
    next(iter(metadata.storage_data.values())).relative_path = '../other'
    (saved / '.metadata').write_bytes(pickle.dumps(metadata))
    with pytest.raises(UserError, match=r'\.\./other, which is outside of the folder'):
        load_sharded(saved)


@pytest.mark.parametrize('name', ['.metadata', '__0_0.distcp', 'content.pth'])
def test_a_missing_or_damaged_file(saved, name):
    content = (saved / name).read_bytes()
    (saved / name).write_bytes(content[:len(content) // 2])
    with pytest.raises(UserError, match=str(saved)):
        load_sharded(saved)
    (saved / name).unlink()
    with pytest.raises(UserError, match=str(saved)):
        load_sharded(saved)
