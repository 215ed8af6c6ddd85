"""Tests of Vision-LSTM alone: sizes, directions, convolutions, grids, padding, taps, poolings, arguments."""

import pytest
import torch
import torch.nn.functional as F
from timm.layers import DropPath

from tests.backbones.registered import disturb, image, tiny
from tests.backbones.small_configs import small_cfg
from vitdet_plugin.backbones.vision_lstm import VisionLSTM
from vitdet_plugin.errors import UserError
from vitdet_plugin.heads.vil_cls_head import VisionLSTMClsHead
from vitdet_plugin.layers.padding import filled_sizes
from vitdet_plugin.layers.pos_embed import resize_grid
from vitdet_plugin.visualization.cam_layers import cam_layer

PUBLISHED = {'tiny': (192, 6_391_528), 'small': (384, 23_398_696), 'base': (768, 89_263_528)}


def vil(seed=0, **kwargs):
    return tiny(VisionLSTM, seed, **kwargs)


def count(*modules):
    return sum(p.numel() for module in modules for p in module.parameters())


@pytest.mark.parametrize('arch', PUBLISHED)
def test_published_sizes(arch):
    dim, parameters = PUBLISHED[arch]
    with torch.device('meta'):
        model = VisionLSTM(arch, pooling='bilateral_flatten')
        assert count(model, VisionLSTMClsHead(1000, 2 * dim)) == parameters
        first = VisionLSTM(arch, version=1, pooling='bilateral_avg')
    assert len(model.blocks) == len(first.blocks) == 24 and model.out_channels == (2 * dim,)
    assert [block.layer.reverse for block in first.blocks] == [False, True] * 12
    assert not any('proj' in name and name.endswith('bias') for name, _ in first.blocks.named_parameters())


@pytest.mark.parametrize('version', [1, 2])
def test_directions(version):
    """In one direction a position depends on earlier positions only, in the other on later ones."""
    for reverse in (False, True):
        block = vil(version=version).blocks[int(reverse)].double().eval()
        x = torch.randn(1, 30, 32, dtype=torch.float64, requires_grad=True)
        reached = torch.autograd.grad(block(x, (5, 6), None)[0, 14].square().sum(), x)[0][0].abs().sum(1) > 0
        margin = 0 if version == 1 else 8  # the 3x3 convolution reaches one row and one position further
        if reverse:
            reached = reached.flip(0)
        position = 29 - 14 if reverse else 14
        assert reached[:position + 1].all() and not reached[position + 1 + margin:].any()


def test_the_reverse_direction_is_the_other_one_on_the_rotated_image():
    model = vil()
    ahead, back = (block.layer for block in model.blocks[:2])
    back.load_state_dict(ahead.state_dict())
    x = torch.randn(2, 12, 32)
    torch.testing.assert_close(back(x.flip(1), (3, 4)).flip(1), ahead(x, (3, 4)))


def test_unidirectional():
    assert not any(block.layer.reverse for block in vil(alternation='unidirectional').blocks)


@pytest.mark.parametrize(('version', 'size'), [(1, 2), (2, 5)])
def test_kernel_size_is_used(version, size):
    model = vil(version=version, conv_kernel_size=size)
    assert model.blocks[0].layer.conv.weight.shape[2:] == (size,) * version
    assert model(image(model, 3, 4))[0].shape == (2, 32, 3, 4)


def test_convolution_runs_over_the_grid_of_the_input():
    """Of the input, not of ``img_size``: an image of one row has no neighbor below."""
    layer = vil().blocks[0].layer
    u = torch.randn(1, 12, 64)
    for hw in ((3, 4), (2, 6), (12, 1)):
        expected = F.conv2d(u.transpose(1, 2).reshape(1, 64, *hw), layer.conv.weight, layer.conv.bias, padding=1,
                            groups=64)
        torch.testing.assert_close(layer._convolve(u, hw), expected.flatten(2).transpose(1, 2))


def test_causal_convolution():
    layer = vil(version=1).blocks[0].layer
    u = torch.randn(1, 9, 64)
    out = layer._convolve(u, (3, 3))
    expected = sum(F.pad(u, (0, 0, 3 - tap, 0))[:, :9] * layer.conv.weight[:, 0, tap] for tap in range(4))
    torch.testing.assert_close(out, expected + layer.conv.bias)


@pytest.mark.parametrize('hw', [(4, 4), (7, 3)])
def test_position_embedding_is_resized(hw):
    model = vil().eval()
    stored = model.pos_embed.permute(0, 3, 1, 2)
    expected = stored if hw == (4, 4) else F.interpolate(stored, size=hw, mode='bicubic', align_corners=False)
    assert model.pos_embed.shape == (1, 4, 4, 32)
    torch.testing.assert_close(resize_grid(model.pos_embed, hw), expected.permute(0, 2, 3, 1))


@pytest.mark.parametrize(('stride', 'stem'), [(8, 'patch'), (4, 'patch'), (8, 'conv'), (16, 'conv')])
def test_finer_tokens(stride, stem):
    model = vil(stride=stride, stem=stem)
    assert model.pos_embed.shape[1] == 64 // stride
    assert model(torch.randn(1, 3, 48, 32))[0].shape == (1, 32, 48 // stride, 32 // stride)
    model.reset_parameters()


def batch_of_two(sizes, canvas=(80, 112), dtype=torch.float64):
    x = torch.zeros(len(sizes), 3, *canvas, dtype=dtype)
    for image_chw, (h, w) in zip(x, sizes):
        image_chw[:, :h, :w] = torch.randn(3, h, w)
    return x


@pytest.mark.parametrize('version', [1, 2])
@pytest.mark.parametrize('how', ['sizes', 'mask_padding'])
@torch.no_grad()
def test_padding_of_a_batch_changes_nothing(version, how):
    """Each image alone, padded to whole patches only, and in a batch with a larger one."""
    model = vil(version=version, mask_padding=how == 'mask_padding', out_indices=(1, 3)).double().eval()
    sizes = [(80, 100), (50, 33), (64, 112)]
    x = batch_of_two(sizes)
    together = model(x, sizes if how == 'sizes' else None)
    plain = vil(version=version, out_indices=(1, 3)).double().eval()
    for n, (h, w) in enumerate(sizes):
        rows, columns = -(-h // 16), -(-w // 16)
        alone = plain(x[n:n + 1, :, :16 * rows, :16 * columns])
        for found, expected in zip(together, alone, strict=True):
            torch.testing.assert_close(found[n:n + 1, :, :rows, :columns], expected, atol=1e-9, rtol=1e-9)
    unmasked = plain(x)[-1]
    assert (unmasked - together[-1])[1, :, :4, :3].abs().max() > 1e-3  # padding does matter where it is not masked


@torch.no_grad()
def test_tokens_of_images_come_first_in_their_order():
    model = vil(version=1).double()
    x = torch.randn(3, 4, 5, 32, dtype=torch.float64)
    moved, valid, position = model._mask(x, torch.tensor([[4, 5], [2, 3], [1, 1]]))
    assert valid.sum(1).tolist() == [20, 6, 1] and not valid.diff(dim=1).logical_and(valid[:, 1:]).any()
    restored = moved.gather(1, position[..., None].expand_as(moved)).unflatten(1, (4, 5))
    torch.testing.assert_close(moved[1, :6].unflatten(0, (2, 3)), restored[1, :2, :3], rtol=0, atol=0)
    torch.testing.assert_close(moved[1, 6:10], torch.cat([restored[1, 0, 3:], restored[1, 1, 3:]]), rtol=0, atol=0)
    inside = torch.ones(3, 20, dtype=torch.bool)
    inside[1], inside[2] = (torch.arange(20) % 5 < 3) & (torch.arange(20) < 10), torch.arange(20) == 0
    expected = inside.int().argsort(dim=1, descending=True, stable=True).argsort(1)
    assert torch.equal(position, expected)


def test_gradients_of_an_image_do_not_depend_on_its_padding():
    model = vil(version=1, mask_padding=True).double()
    x = batch_of_two([(64, 64), (48, 33)], canvas=(64, 64)).requires_grad_()
    model(x)[0][1, :, :3, :3].square().sum().backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if name != 'pos_embed'}
    model.zero_grad()
    alone = x.detach()[1:, :, :48, :48].requires_grad_()
    model(alone, sizes=[(48, 33)])[0].square().sum().backward()
    torch.testing.assert_close(x.grad[1:, :, :48, :33], alone.grad[..., :33])
    assert not x.grad[0].any()
    torch.testing.assert_close(found, {name: model.get_parameter(name).grad for name in found})


def test_masked_padding_has_no_gradient():
    model = vil(mask_padding=True)
    x = batch_of_two([(64, 64), (48, 40)], canvas=(64, 64), dtype=torch.float32).requires_grad_()
    model(x)[0][1, :, :3, :3].square().sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    assert not x.grad[1, :, 48:].any() and not x.grad[1, :, :, 48:].any() and x.grad[1, :, :48, :40].abs().min() > 0


def test_sizes_without_padding_are_found():
    sizes = [[80, 100], [1, 33], [0, 0]]
    assert filled_sizes(batch_of_two(sizes)).tolist() == sizes
    model = vil(mask_padding=True).eval()
    assert model(torch.zeros(1, 3, 32, 32))[0].isfinite().all()


def test_exports():
    model = vil(arch=dict(dim=32, depth=2), mask_padding=True, stride=8).eval()  # 80 tokens: chunks elsewhere
    x = torch.randn(1, 3, 64, 80)
    exported = torch.export.export(model, (x,)).module()
    torch.testing.assert_close(exported(x)[0], model(x)[0], atol=1e-5, rtol=1e-5)


def test_taps_of_several_blocks():
    model = vil(out_indices=(0, 2, 3)).eval()
    x = image(model)
    with torch.no_grad():
        maps = model(x)
        tokens, expected = (model.patch_embed(x) + resize_grid(model.pos_embed, (2, 3))).flatten(1, 2), []
        for i, block in enumerate(model.blocks):
            tokens = block(tokens, (2, 3), None)
            norm = model.norm if i == 3 else model.tap_norms[str(i)] if i != 1 else None
            if norm is not None:
                expected.append(norm(tokens).unflatten(1, (2, 3)).permute(0, 3, 1, 2))
    assert model.out_channels == (32,) * 3 and model.out_strides == (16,) * 3
    for found, reference in zip(maps, expected, strict=True):
        torch.testing.assert_close(found, reference)


@pytest.mark.parametrize('pooling', ['bilateral_avg', 'bilateral_flatten'])
@torch.no_grad()
def test_poolings(pooling):
    """Version 2 normalizes before it takes the ends, version 1 after."""
    for version in (1, 2):
        model = vil(version=version, pooling=pooling, legacy_norm=version == 1).eval()
        x = image(model)
        tokens = (model.patch_embed(x) + resize_grid(model.pos_embed, (2, 3))).flatten(1, 2)
        for block in model.blocks:
            tokens = block(tokens, (2, 3), None)
        tokens = model.norm(tokens) if version == 2 else model.legacy_norm(tokens)
        ends = (tokens[:, 0] + tokens[:, -1]) / 2 if pooling == 'bilateral_avg' else tokens[:, [0, -1]].flatten(1)
        expected = ends if version == 2 else model.norm(ends)
        out = model(x)
        assert len(out) == 1 and out[0].shape == (2, model.out_channels[0], 1, 1)
        torch.testing.assert_close(out[0][..., 0, 0], expected)


def test_activation_maps_are_taken_where_every_token_has_a_gradient():
    model = vil(pooling='bilateral_flatten', arch=dict(dim=32, depth=6)).eval()
    layer, to_map = cam_layer(model)
    kept = []
    layer.register_forward_hook(lambda module, args, out: kept.append(out))
    x = image(model)
    gradient = torch.autograd.grad(model(x)[0].square().sum(), kept)[0]
    assert (to_map(gradient, x.shape[2:]).abs().sum(1) > 0).all()
    assert cam_layer(vil()) is None


def test_drop_path_is_constant_or_rises():
    def rates(**kwargs):
        model = vil(drop_path_rate=0.3, **kwargs)
        return [b.drop_path.drop_prob if isinstance(b.drop_path, DropPath) else 0.0 for b in model.blocks]
    assert rates() == pytest.approx([0.3] * 4)
    assert rates(drop_path_decay=True) == pytest.approx([0.0, 0.1, 0.2, 0.3])


def test_initial_weights():
    torch.manual_seed(0)
    model = VisionLSTM('small')
    disturb(model).reset_parameters()
    layer = model.blocks[3].layer
    small, gates = (2 / (5 * 384)) ** 0.5, layer.mlstm_cell
    for part, std in ((layer.proj_up, small), (layer.q_proj, small), (layer.proj_down, 2 / 384 ** 0.5)):
        assert part.weight.std().item() == pytest.approx(std, rel=0.05) and not part.bias.any()
    assert not gates.igate.weight.any() and not gates.fgate.weight.any() and not model.norm.weight.any()
    assert gates.fgate.bias.tolist() == [3, 4, 5, 6] and gates.igate.bias.abs().max() < 1
    assert (layer.learnable_skip == 1).all()


@pytest.mark.parametrize(('kwargs', 'message'), [
    (dict(arch='huge'), "arch='huge' is unknown; choose one of tiny, small, base"),
    (dict(arch=dict(dim=32)), 'arch requires the keys dim, depth; it has dim'),
    (dict(arch=dict(dim=20, depth=2)), 'dim=20 and num_heads=4: twice dim must be a multiple of 4 x'),
    (dict(num_heads=0), 'num_heads=0 must be'), (dict(img_size=(64,)), r'img_size=\(64,\) must be a whole number'),
    (dict(img_size=8), 'img_size=8 must be'), (dict(conv_kernel_size=0), 'conv_kernel_size=0 must be'),
    (dict(version=3), 'version=3 is unknown; choose one of 1, 2'),
    (dict(stem='convs'), "stem='convs' is unknown"),
    (dict(stem='conv', stride=12), 'stride=12: a convolutional stem requires a power of two'),
    (dict(alternation='random'), "alternation='random' is unknown"),
    (dict(conv_kind='3d'), "conv_kind='3d' is unknown; choose one of 2d, causal1d"),
    (dict(conv_kernel_size=4), 'conv_kernel_size=4 must be odd'),
    (dict(stride=7), 'patch_size=16 and stride=7: their difference must be even'),
    (dict(mlstm='serial'), "mlstm: 'serial' is unknown; choose auto or one of triton, chunkwise, parallel, recurrent"),
    (dict(pooling='max'), "pooling='max' is unknown"),
    (dict(legacy_norm=True), 'legacy_norm=True is for version 1'),
    (dict(out_indices=(1, 2)), r'out_indices=\(1, 2\) must end with the last block, 3'),
    (dict(out_indices=()), r'out_indices=\(\) must be ascending numbers from 0 to 3'),
    (dict(pooling='bilateral_avg', out_indices=(1, 3)), 'pooling is for classifiers'),
    (dict(frozen_stages=5), 'frozen_stages=5 must be from -1 to 4'),
])
def test_invalid_arguments_are_one_line_errors(kwargs, message):
    with pytest.raises(UserError, match=message) as caught:
        VisionLSTM(**{**small_cfg(VisionLSTM), **kwargs})
    assert '\n' not in str(caught.value)


def test_inputs_that_do_not_fit_are_an_error():
    with pytest.raises(UserError, match=r'\(40, 64\) pixels is not a multiple of the stride 16; set pad_size_divisor'):
        vil()(torch.zeros(1, 3, 40, 64))
    with pytest.raises(UserError, match='pooling requires images of one size'):
        vil(pooling='bilateral_avg')(torch.zeros(2, 3, 64, 64), [(64, 64), (32, 64)])
