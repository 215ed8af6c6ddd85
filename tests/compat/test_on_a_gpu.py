"""What replaces functions of mmdet and mmcv for tensors on a GPU, with tensors that only say that they are there."""

import pytest
import torch
from mmdet.models.task_modules.samplers import RandomSampler

from vitdet_plugin.compat import mmcv_ext, nms


class OnGpu(torch.Tensor):
    """A tensor of the CPU that says otherwise."""

    is_cuda = True


def choose(gallery, num=4):
    torch.manual_seed(3)
    return RandomSampler(8, 0.5).random_choice(gallery, num)


def test_samples_are_drawn_on_the_device(monkeypatch):
    devices, permute = [], torch.randperm

    def randperm(count, **kwargs):
        devices.append(kwargs.get('device'))
        return permute(count, **kwargs)

    monkeypatch.setattr(torch, 'randperm', randperm)
    gallery = torch.arange(100, 120)
    found = choose(gallery.as_subclass(OnGpu)).as_subclass(torch.Tensor)
    assert devices == [gallery.device]
    assert len(set(found.tolist())) == 4 and set(found.tolist()) <= set(gallery.tolist())
    assert choose(gallery).tolist() == gallery[permute_with(3, permute)][:4].tolist() and devices[1] is None


def permute_with(seed, permute):
    torch.manual_seed(seed)
    return permute(20)


@pytest.mark.skipif(not mmcv_ext.is_stand_in(), reason='mmcv has compiled operators')
def test_suppression_calls_the_operator_on_a_gpu_only(monkeypatch):
    boxes, scores = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 5], [9, 9, 12, 12]]), torch.tensor([0.5, 0.9, 0.1])
    assert nms._on_gpus is not None  # installed by registration
    calls = []
    monkeypatch.setattr(nms, '_on_gpus', lambda *args: calls.append(args) or torch.tensor([2]))
    assert nms.nms(boxes, scores, 0.5).tolist() == [1, 2] and not calls
    assert nms.nms(boxes.as_subclass(OnGpu), scores, 0.5, offset=1).tolist() == [2]
    (given, _, threshold), = calls
    assert given[0].tolist() == [0, 0, 5, 5] and threshold == 0.5
