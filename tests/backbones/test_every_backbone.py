"""Requirements on every registered backbone; each is built small (`small_cfg`)."""

import copy
import inspect
import io

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from torch import nn

from tests.backbones.registered import BACKBONES, file_of, image, refusal, tiny
from tests.backbones.small_configs import small_cfg
from vitdet_plugin.checkpoints.fit import find_depth_mismatch
from vitdet_plugin.checkpoints.recognition import OURS, recognize
from vitdet_plugin.config.registry import import_scope
from vitdet_plugin.engine.layer_decay import parameter_groups

MOST_WEIGHTS = 1_000_000
every_backbone = pytest.mark.parametrize('cls', BACKBONES, ids=lambda cls: cls.__name__)


def blocks_of(model) -> list[nn.Module]:
    blocks = model.repeated_blocks()
    assert blocks, f'{file_of(type(model))}: name its lists of blocks "blocks", or return them in repeated_blocks()'
    return blocks


def test_discovery_finds_the_backbones():
    assert 'ViTDet' in [cls.__name__ for cls in BACKBONES]


@every_backbone
def test_the_small_model_is_small(cls):
    assert cls.small, f'{file_of(cls)}.small is empty; give the arguments of a small model with every kind of part'
    count = sum(p.numel() for p in cls(**small_cfg(cls)).parameters())
    assert count <= MOST_WEIGHTS, f'{file_of(cls)}.small: {count} parameters, more than {MOST_WEIGHTS}; reduce them'


@every_backbone
@pytest.mark.parametrize('name', ['in_channels', 'out_channels', 'out_strides', 'frozen_stages', 'with_cp'])
def test_the_constructor_sets_the_attributes(cls, name):
    is_argument = name in inspect.signature(cls).parameters  # not those of the backbone inside
    given = {name: dict(in_channels=4, frozen_stages=1, with_cp=True)[name]} if is_argument else {}
    found = getattr(cls(**{**small_cfg(cls), **given}), name, None)
    is_set = found is not None and found == given.get(name, found)
    assert is_set, f'{file_of(cls)}: set self.{name} in the constructor; backbones/base.py says what it is'


@every_backbone
def test_a_file_is_recognized_by_its_key_weights(cls):
    """``vitdet convert`` reads the weights of a backbone alone without a model to compare them with."""
    state = tiny(cls).state_dict()
    assert cls.key_weights, f'{file_of(cls)}.key_weights is empty; name weights that every model of the class has'
    assert not set(cls.key_weights) - state.keys(), f'{file_of(cls)}.key_weights: not in the state dict'
    shared = [other.__name__ for other in BACKBONES
              if other is not cls and set(cls.key_weights) <= tiny(other).state_dict().keys()]
    assert not shared, f'{file_of(cls)}.key_weights are weights of {shared[0]}, too; add one that it lacks'
    found = recognize(state, set(), 'x.pth')
    assert found.name == OURS[1], f'{file_of(cls)}: its own names are those of the published format {found.name}'
    assert found.conversion.state.keys() == {f'backbone.{name}' for name in state}
    detector = {**found.conversion.state, 'bbox_head.rtm_cls.0.weight': torch.zeros(1)}
    assert recognize(detector, set(), 'x.pth').name == OURS[0]  # not mmdet's, whose backbone can be exchanged


@every_backbone
def test_a_file_of_another_depth_is_described(cls):
    model = tiny(cls)
    last = next(name for name, module in model.named_modules() if module is blocks_of(model)[-1])
    names = [f'backbone.{name}' for name in model.state_dict()]
    rest = [name for name in names if not name.startswith(f'backbone.{last}.')]
    assert find_depth_mismatch(rest, names), (
        f'{file_of(cls)}: name the list of {last} "blocks", or add its name to _CONTAINER in checkpoints/fit.py')


@every_backbone
@pytest.mark.parametrize(('rows', 'columns'), [(2, 2), (3, 5), (4, 1), (7, 2)])
def test_maps_have_the_declared_channels_and_strides(cls, rows, columns):
    model = tiny(cls).eval()
    x = image(model, rows, columns)
    outs = model(x)
    assert isinstance(outs, tuple) and len(outs) == len(model.out_channels) == len(model.out_strides)
    for out, channels, stride in zip(outs, model.out_channels, model.out_strides):
        assert out.shape == (2, channels, x.shape[2] // stride, x.shape[3] // stride)
        assert out.isfinite().all() and out.std() > 0


@every_backbone
def test_sides_that_are_no_multiple_of_a_stride(cls):
    """Multiples of ``size_divisor`` are enough; the size of a map is rounded, or that of the padded image."""
    model = tiny(cls).eval()
    step = model.size_divisor
    height, width = (-(-2 * model.out_strides[-1] // step) + extra for extra in (1, 3))
    x = torch.randn(1, 3, height * step, width * step)
    for out, channels, stride in zip(model(x), model.out_channels, model.out_strides):
        assert out.shape[1] == channels and out.isfinite().all()
        padded = [-(-side // model.out_strides[-1]) * model.out_strides[-1] for side in x.shape[2:]]
        assert all(side // stride <= found <= most // stride
                   for found, side, most in zip(out.shape[2:], x.shape[2:], padded))


@every_backbone
def test_images_of_other_channels(cls):
    if 'in_channels' not in inspect.signature(cls).parameters:
        pytest.skip('its channels are those of the backbone inside')
    model = tiny(cls, in_channels=4).eval()
    assert model.in_channels == 4
    x = torch.randn(1, 4, *image(model).shape[2:])
    other = x.clone()
    other[:, 3] += 1
    assert not torch.allclose(model(x)[-1], model(other)[-1])


@every_backbone
def test_stochastic_depth(cls):
    if 'drop_path_rate' not in inspect.signature(cls).parameters:
        pytest.skip('its rate is that of the backbone inside')
    never, often = tiny(cls, drop_path_rate=0.0), tiny(cls, drop_path_rate=0.9)
    x = image(never, batch=4)
    with torch.no_grad():
        torch.testing.assert_close(often.eval()(x), never.eval()(x))  # before training changes statistics of BatchNorm
        assert torch.equal(never.train()(x)[-1], never(x)[-1])
        assert not all(torch.equal(often.train()(x)[-1], often(x)[-1]) for _ in range(4))


@every_backbone
def test_the_constructor_initializes_as_reset_parameters_does(cls):
    torch.manual_seed(0)
    built, again = cls(**small_cfg(cls)), cls(**small_cfg(cls))
    again.reset_parameters()
    advice = f'differs from reset_parameters(); call it at the end of the constructor of {file_of(cls)}'
    for (name, ours), reset in zip(built.named_parameters(), again.parameters()):
        if reset.numel() == 1 or reset.std() == 0:
            assert torch.equal(ours, reset), f'{name} {advice}'
        elif reset.numel() >= 200:
            assert 0.6 < ours.std() / reset.std() < 1.6, f'{name} {advice}'


@every_backbone
def test_pretrained_is_short_for_init_cfg(cls):
    found = cls(**small_cfg(cls), pretrained='x.pth').init_cfg
    assert found == dict(type='Pretrained', checkpoint='x.pth'), (
        f'{file_of(cls)}: give init_cfg and pretrained to super().__init__')


@every_backbone
def test_all_maps_of_several_strides_are_named(cls):
    if len(set(tiny(cls).out_strides)) > 1 and cls.__name__ != 'CBNet':
        assert cls.all_out_indices, f'{file_of(cls)}.all_out_indices is None; give all values of out_indices'


@every_backbone
def test_built_from_a_config_by_name(cls):
    assert type(MODELS.build(dict(type=cls.__name__, **small_cfg(cls)))) is cls


@every_backbone
def test_other_packages_do_not_have_the_name(cls):
    """In the scope of mmdet or mmpretrain their class would be built instead."""
    from mmdet.registry import MODELS as OF_MMDET
    from mmpretrain.registry import MODELS as OF_MMPRETRAIN
    import_scope('mmdet')
    import_scope('mmpretrain')
    owners = [registry.scope for registry in (OF_MMDET, OF_MMPRETRAIN) if cls.__name__ in registry.module_dict]
    assert not owners, f'{cls.__name__} is also a class of {owners[0]}; give the backbone another name'


@every_backbone
def test_float64_and_bfloat16_agree_with_float32(cls):
    model = tiny(cls).eval()
    x = image(model)
    with torch.no_grad():
        expected = model(x)
        for dtype, tolerance in ((torch.float64, 1e-4), (torch.bfloat16, 0.1)):
            for out, reference in zip(copy.deepcopy(model).to(dtype)(x.to(dtype)), expected):
                assert out.dtype == dtype
                assert (out.double() - reference).abs().max() < tolerance * reference.abs().max()


@every_backbone
def test_autocast(cls):
    model = tiny(cls)
    with torch.autocast('cpu', torch.bfloat16):
        outs = model(image(model))
    sum(out.float().square().mean() for out in outs).backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in model.parameters())


@every_backbone
def test_every_parameter_receives_a_gradient(cls):
    model = tiny(cls, drop_path_rate=0.0)
    outs = model(image(model, 5, 6))
    sum((out * torch.randn_like(out)).sum() for out in outs).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert not without


@every_backbone
def test_eval_is_deterministic_and_independent_of_the_rest_of_the_batch(cls):
    model = tiny(cls).eval()
    x = image(model, batch=3)
    with torch.no_grad():
        together, again = model(x), model(x)
        alone = [model(x[i:i + 1]) for i in range(3)]
    for level, out in enumerate(together):
        assert torch.equal(out, again[level])
        torch.testing.assert_close(out, torch.cat([one[level] for one in alone]), atol=1e-4, rtol=1e-4)


@every_backbone
def test_eval_without_gradients_equals_eval_with_them(cls):
    """Caches and fused paths of inference give the same results."""
    model = tiny(cls).eval()
    x = image(model, 3, 4)
    expected = model(x)
    with torch.no_grad():
        torch.testing.assert_close(model(x), expected, atol=1e-5, rtol=1e-5)
    with torch.inference_mode():
        torch.testing.assert_close(model(x), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model(x), expected, atol=1e-5, rtol=1e-5)


@every_backbone
def test_state_dict_round_trip(cls):
    model, other = tiny(cls).eval(), tiny(cls, seed=1).eval()
    x = image(model)
    with torch.no_grad():
        assert not torch.equal(other(x)[-1], model(x)[-1])
        other.load_state_dict(model.state_dict(), strict=True)
        assert all(torch.equal(a, b) for a, b in zip(other(x), model(x)))


@every_backbone
def test_forward_calls_every_repeated_block(cls):
    """They are compiled and sharded one by one, by hooks of ``forward``."""
    model, called = tiny(cls).eval(), []
    blocks = blocks_of(model)
    for block in blocks:
        block.register_forward_pre_hook(lambda module, _: called.append(module))
    model(image(model))
    assert {id(block) for block in blocks} == {id(block) for block in called} and len(called) == len(blocks)


@every_backbone
def test_deepcopy_and_saving_the_whole_module(cls):
    model = tiny(cls).eval()
    x = image(model)
    file = io.BytesIO()
    with torch.no_grad():
        expected = model(x)
        torch.save(model, file)
        file.seek(0)
        for twin in (copy.deepcopy(model), torch.load(file, weights_only=False)):
            assert all(torch.equal(a, b) for a, b in zip(twin(x), expected))
            twin.load_state_dict(tiny(cls, seed=1).state_dict())
            assert not torch.equal(twin(x)[-1], expected[-1])
        assert all(torch.equal(a, b) for a, b in zip(model(x), expected))


@every_backbone
def test_meta_device_then_reset_parameters(cls):
    """Sharded training builds large models in this way: first without memory, initialized later."""
    with torch.device('meta'):
        model = cls(**small_cfg(cls))
    assert all(p.is_meta for p in model.parameters())
    model = model.to_empty(device='cpu')
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(float('nan'))
    model.reset_parameters()
    missed = [name for name, p in model.named_parameters() if not p.isfinite().all()]
    assert not missed
    assert all(out.isfinite().all() for out in model(image(model)))


@every_backbone
def test_layer_ids_start_at_the_stem_and_grow_with_depth(cls):
    model = tiny(cls)
    ids = [model.get_layer_id(name) for name, _ in model.named_parameters()]
    assert min(ids) == 0 and max(ids) <= model.num_layers + 1
    assert set(range(model.num_layers + 1)) <= set(ids)
    first_seen = [ids.index(i) for i in range(model.num_layers + 1)]  # parameters are registered from stem to top
    assert first_seen == sorted(first_seen)


@every_backbone
@pytest.mark.parametrize('rule', ['d2', 'plain', 'none'])
def test_every_parameter_is_in_exactly_one_optimizer_group(cls, rule):
    detector = nn.Module()
    detector.backbone, detector.head = tiny(cls), nn.Linear(2, 2)
    groups = parameter_groups(detector, lr=1.0, weight_decay=0.1, rate=0.5, rule=rule)
    grouped = [id(p) for group in groups for p in group['params']]
    assert sorted(grouped) == sorted(id(p) for p in detector.parameters())
    assert groups[0]['lr'] == 0.5 ** (detector.backbone.num_layers + 1) and groups[-1]['lr'] == 1.0


@every_backbone
def test_the_layer_wise_rates_of_mmpretrain_are_those_of_the_project(cls):
    import_scope('mmpretrain')
    rates = {}
    model = MODELS.build(dict(type='mmpretrain.ImageClassifier', backbone=dict(type=cls.__name__, **small_cfg(cls)),
                              head=dict(type='mmpretrain.LinearClsHead', num_classes=2, in_channels=2)))
    for name in ('LayerWiseDecayConstructor', 'mmpretrain.LearningRateDecayOptimWrapperConstructor'):
        optimizer = build_optim_wrapper(model, dict(
            constructor=name, paramwise_cfg=dict(layer_decay_rate=0.5),
            optimizer=dict(type='AdamW', lr=1.0, weight_decay=0.1))).optimizer
        rates[name] = {id(p): group['lr'] for group in optimizer.param_groups for p in group['params']}
    one, other = rates.values()
    assert one == other and len(one) == len(list(model.parameters()))
    assert {min(one.values()), max(one.values())} == {0.5 ** (model.backbone.num_layers + 1), 1.0}


@every_backbone
@pytest.mark.parametrize('rate', [2, -1, float('nan'), 'a'])
def test_rates_of_drop_path_are_probabilities(cls, rate):
    line = refusal(cls, lambda: tiny(cls, drop_path_rate=rate), 'call check_range(0, 1, drop_path_rate=drop_path_rate) '
                   'of utils/arguments.py first in the constructor')
    assert f'drop_path_rate={rate!r} must be a number from 0 to 1' in line


@every_backbone
@pytest.mark.parametrize('value', [-2, 1000, 'a'])
def test_frozen_stages_exist(cls, value):
    line = refusal(cls, lambda: tiny(cls, frozen_stages=value), 'call check_frozen_stages(frozen_stages, …) of '
                   'backbones/arguments.py in the constructor')
    assert f'frozen_stages={value!r} must be from -1 to ' in line


@every_backbone
def test_frozen_stages_get_no_gradient_from_construction_on(cls):
    """Optimizers and DDP read ``requires_grad`` before the first call of ``train()``."""
    model = tiny(cls, frozen_stages=1)
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    stem = [name for name, _ in model.named_parameters() if model.get_layer_id(name) == 0]
    assert set(stem) <= frozen, f'{file_of(cls)}: {stem[0]} is not frozen; end the constructor with self.train()'
    assert len(frozen) < len(list(model.parameters()))
    model.eval()
    model.train()
    assert frozen == {name for name, p in model.named_parameters() if not p.requires_grad}
    assert all(not part.training for part in model.stages_to_freeze() if isinstance(part, nn.Module))
    sum(out.sum() for out in model(image(model))).backward()
    assert {name for name, p in model.named_parameters() if p.grad is None} == frozen


@every_backbone
def test_frozen_stages_can_be_changed(cls):
    model, expected = tiny(cls, frozen_stages=1), tiny(cls, frozen_stages=0)
    model.frozen_stages = 0
    model.requires_grad_(True).train()
    for (name, p), (_, other) in zip(model.named_parameters(), expected.named_parameters(), strict=True):
        assert p.requires_grad == other.requires_grad, name


@every_backbone
def test_nothing_is_frozen_by_default(cls):
    assert all(p.requires_grad for p in tiny(cls).parameters())


@every_backbone
def test_activation_checkpointing_changes_nothing(cls):
    plain, lean = tiny(cls), tiny(cls, with_cp=True)
    results = []
    for model in (plain, lean):
        x = image(model).requires_grad_()
        torch.manual_seed(3)  # equal random numbers for stochastic depth
        outs = model(x)
        sum(out.square().sum() for out in outs).backward()
        results.append([*outs, x.grad, *(p.grad for p in model.parameters())])
    torch.testing.assert_close(results[1], results[0])


@every_backbone
def test_activation_checkpointing_saves_memory(cls):
    def kept(model):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            model(image(model, 6, 6))
        return sum(sizes)

    share = kept(tiny(cls, with_cp=True)) / kept(tiny(cls))
    assert share < 0.5, (f'{file_of(cls)}: {share:.0%} are kept with with_cp=True; call its blocks by '
                         'self.checkpointed, or, if all of them are, give more blocks in small')
