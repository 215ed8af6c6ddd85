"""LoRA: the formula, its start, merging, and messages for wrong arguments."""

import pytest
import torch
from torch import nn

from vitdet_plugin.errors import UserError
from vitdet_plugin.layers.lora import LoRALinear, add_lora, has_lora, merge_lora, merge_state_dict


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.attn, self.mlp = (nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 6)) for _ in range(2))

    def forward(self, x):
        return x + self.mlp(self.attn(x))


def adapted(**options):
    torch.manual_seed(0)
    model = nn.Sequential(Block(), Block())
    add_lora(model, model, **{**dict(rank=2), **options})
    return model


def disturb(model):
    for module in model.modules():
        if isinstance(module, LoRALinear):
            nn.init.normal_(module.lora_b)
    return model


def test_formula_and_start():
    linear = nn.Linear(5, 3)
    layer = LoRALinear(linear, rank=2, alpha=6.0)
    x = torch.randn(4, 7, 5)
    assert torch.equal(layer(x), linear(x))
    assert layer.weight is linear.weight and layer.bias is linear.bias
    nn.init.normal_(layer.lora_b)
    weight = linear.weight + 6.0 / 2 * layer.lora_b @ layer.lora_a
    torch.testing.assert_close(layer(x), x @ weight.T + linear.bias)


def test_only_the_updates_are_trained_and_weights_keep_their_names():
    plain, model = nn.Sequential(Block(), Block()), adapted(parts='attn')
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {
        f'{block}.attn.{layer}.lora_{x}' for block in (0, 1) for layer in (0, 2) for x in 'ab'}
    assert plain.state_dict().keys() < model.state_dict().keys()
    assert not model.load_state_dict(plain.state_dict(), strict=False).unexpected_keys
    x = torch.randn(3, 6)
    torch.testing.assert_close(model(x), plain(x))


def test_merging_keeps_the_outputs():
    model, x = disturb(adapted(alpha=3.0)), torch.randn(3, 6)
    expected, state = model(x), model.state_dict()
    plain = nn.Sequential(Block(), Block())
    plain.load_state_dict(merge_state_dict(state))  # without the config: the file holds the scale
    torch.testing.assert_close(plain(x), expected)
    torch.testing.assert_close(merge_lora(model)(x), expected)
    assert has_lora(state) and not has_lora(model.state_dict())
    assert not any(isinstance(module, LoRALinear) for module in model.modules())


def test_dropout_acts_on_the_update_in_training_only():
    layer = disturb(adapted(dropout=0.5))[0].attn[0]
    x = torch.randn(200, 6)
    assert not torch.equal(layer(x), layer(x))
    assert torch.equal(layer.eval()(x), layer(x))


def test_half_precision():
    model, x = disturb(adapted()), torch.randn(3, 6)
    with torch.autocast('cpu', torch.bfloat16):
        assert model[0].attn[0](x).dtype == torch.bfloat16
    assert model.to(torch.bfloat16)(x.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize(('options', 'message'), [
    (dict(rank=0), 'rank=0 is not a positive integer'), (dict(rank='8'), "rank='8' is not"),
    (dict(parts=('attention',)), r"parts=\('attention',\); choose from attn, mlp"), (dict(parts=()), r'parts=\(\)'),
    (dict(dropout=1.0), 'dropout=1.0 must be'),
])
def test_wrong_arguments(options, message):
    with pytest.raises(UserError, match=message):
        adapted(**options)
