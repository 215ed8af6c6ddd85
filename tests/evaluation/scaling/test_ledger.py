import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from vitdet_plugin.evaluation.scaling.ledger import Ledger, count_step


def two_layers():
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))


def small_network():
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.GELU(), nn.GroupNorm(2, 8), nn.Conv2d(8, 4, 1),
                         nn.Flatten(2), nn.LayerNorm(30))


def on_fakes(build, shape, run=lambda model, x: [model(x)]):
    with torch.device('meta'):
        model = build()
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.to_empty(device='cpu')
        x = torch.empty(shape)
        return count_step(lambda: run(model, x), [*model.parameters(), x], Ledger())


def test_numbers_of_two_linear_layers():
    batch = 5
    found = on_fakes(two_layers, (batch, 8))
    first, second = 2 * batch * 8 * 32, 2 * batch * 32 * 4
    assert found.flops(is_backward=False) == first + second
    assert found.flops(is_backward=True) == first + 2 * second  # the input of the first layer needs no gradient
    assert found.saved == 4 * batch * 32  # ReLU's output; inputs and weights exist anyway
    forward = [each.moved for each in found.operations if not each.is_backward]
    hidden, out = batch * 32, batch * 4
    assert forward == [4 * (32 + batch * 8 + 8 * 32 + hidden), 4 * 2 * hidden, 4 * (4 + hidden + 32 * 4 + out)]
    # at the end of the second layer's forward pass: hidden before and after ReLU, then the output
    assert 4 * (hidden + out) <= found.peak <= 4 * (2 * hidden + 2 * out + 32 * 4 + 32 * 8)


def saved_on_the_cpu(model, x):
    constants = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), x)}
    sizes = {}

    def pack(tensor):
        if tensor.untyped_storage().data_ptr() not in constants:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = model(x)
    del out
    return sum(sizes.values())


def test_saved_bytes_and_operations_are_those_of_a_real_step():
    model, x = small_network(), torch.randn(2, 3, 5, 6)
    found = on_fakes(small_network, x.shape)
    assert found.saved == saved_on_the_cpu(model, x) > 0
    with FlopCounterMode(display=False) as counter:
        out = model(x)
    assert found.flops(is_backward=False) == counter.get_total_flops() > 0
    with FlopCounterMode(display=False) as counter:
        out.backward(torch.ones_like(out))
    assert found.flops(is_backward=True) == counter.get_total_flops() > 0


def test_gradients_of_grouped_convolutions():
    def layers():
        return nn.Sequential(nn.Conv2d(4, 12, 3, padding=1, groups=4), nn.ConvTranspose2d(12, 6, 2, stride=2, groups=3))

    found = on_fakes(layers, (2, 4, 5, 6))
    first, second = 2 * 2 * 5 * 6 * 12 * 9, 2 * 2 * 5 * 6 * 12 * 2 * 4  # a group has 1, then 4 inputs
    assert found.flops(is_backward=False) == first + second
    assert found.flops(is_backward=True) == first + 2 * second


def test_checkpointing_saves_memory_and_costs_a_forward_pass():
    def deep():
        return nn.Sequential(*(nn.Sequential(nn.Linear(8, 256), nn.GELU(), nn.Linear(256, 8)) for _ in range(6)))

    def recomputed(model, x):
        for block in model:
            x = checkpoint(block, x, use_reentrant=False)
        return [x]

    plain, saving = on_fakes(deep, (64, 8)), on_fakes(deep, (64, 8), recomputed)
    assert saving.saved < plain.saved and saving.peak < plain.peak / 2
    block = 4 * 64 * (2 * 256 + 8)  # hidden layer before and after GELU, output
    assert plain.saved == pytest.approx(6 * block, abs=2 * 4 * 64 * 8)
    assert plain.flops(False) == saving.flops(False)
    # the last layer of a block need not be computed again: nothing that it saves is missing
    assert saving.flops(True) == plain.flops(True) + plain.flops(False) // 2


def test_views_and_allocations_move_nothing():
    x = torch.empty(4, 6, requires_grad=True)
    found = count_step(lambda: [x.view(6, 4).transpose(0, 1)[1:] * 2], [x], Ledger())
    assert [each.moved for each in found.operations if not each.is_backward] == [2 * 4 * 3 * 6]
    assert found.saved == 0
