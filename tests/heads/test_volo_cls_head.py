"""VOLO's head: class attention, dense logits, token labeling, and training in mmpretrain's classifier."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS, init_default_scope

from tests.backbones.registered import disturb
from tests.backbones.test_volo import ARCH
from vitdet_plugin.backbones.volo import paste_reversed
from vitdet_plugin.errors import UserError
from vitdet_plugin.heads.volo_cls_head import ClassBlock, VOLOClsHead


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmpretrain')


def head(**kwargs):
    torch.manual_seed(0)
    return disturb(VOLOClsHead(5, 32, 4, **kwargs))


def samples(labels, token_scores=None, box=None):
    from mmpretrain.structures import DataSample
    found = [DataSample(metainfo=dict(mix_box=box) if box else None).set_gt_label(label) for label in labels]
    for sample, scores in zip(found, token_scores if token_scores is not None else ()):
        sample.set_field(scores, 'gt_token_score')
    return found


def test_only_the_class_token_attends():
    block = disturb(ClassBlock(32, 4, mlp_ratio=2, qkv_bias=True, scale=None))
    x = torch.randn(2, 6, 32)
    out = block(x)
    assert torch.equal(out[:, 1:], x[:, 1:])
    torch.testing.assert_close(block(torch.cat([x[:, :1], x[:, 1:].flip(1)], 1))[:, 0], out[:, 0])
    normed = block.norm1(x)
    q = block.attn.q(normed[:, 0]).view(2, 4, 8)
    k, v = block.attn.kv(normed).chunk(2, -1)
    scores = torch.einsum('bhd,bnhd->bhn', q, k.view(2, 6, 4, 8)) / 8**0.5
    mixed = torch.einsum('bhn,bnhd->bhd', scores.softmax(-1), v.view(2, 6, 4, 8)).reshape(2, 32)
    cls = x[:, 0] + block.attn.proj(mixed)
    torch.testing.assert_close(out[:, 0], cls + block.mlp(block.norm2(cls)))


def test_dense_logits_add_half_the_maximum_over_tokens():
    dense = head(dense=True)
    x = torch.randn(2, 32, 3, 4)
    cls_logits, aux_logits = dense.both_logits(x)
    assert aux_logits.shape == (2, 3, 4, 5)
    torch.testing.assert_close(dense((x,)), cls_logits + 0.5 * aux_logits.flatten(1, 2).max(1)[0])
    tokens = dense.norm(x.permute(0, 2, 3, 1))  # class attention does not change them
    torch.testing.assert_close(aux_logits, dense.aux_head(tokens))
    plain = head()
    assert plain.aux_head is None and not any('aux' in name for name, _ in plain.named_parameters())
    assert head(depth=0, dense=True)((x,)).shape == head(pooling='avg', depth=0)((x,)).shape == (2, 5)
    with pytest.raises(UserError, match="choose 'token' or 'avg'"):
        head(pooling='max')


def test_without_token_labels_every_token_has_the_label_of_the_image():
    dense = head(dense=True, aux_weight=0.5)
    x, labels = torch.randn(2, 32, 2, 3), torch.tensor([4, 1])
    cls_logits, aux_logits = dense.both_logits(x)
    losses = dense.loss((x,), samples([4, 1]))
    torch.testing.assert_close(losses['loss'], F.cross_entropy(cls_logits, labels))
    per_token = [F.cross_entropy(aux_logits[:, i, j], labels) for i in range(2) for j in range(3)]
    torch.testing.assert_close(losses['loss_aux'], 0.5 * torch.stack(per_token).mean())


@pytest.mark.parametrize('with_maps', [True, False])
def test_loss_of_mixed_tokens(with_maps):
    """1.0 * CE(cls, labels mixed by the box's share) + 0.5 * CE(logits exchanged back, labels of the tokens)."""
    dense = head(dense=True)
    x, labels, box = torch.randn(2, 32, 4, 5), [4, 1], (1, 3, 2, 5)
    maps = torch.rand(2, 5, 4, 5).softmax(1) if with_maps else F.one_hot(torch.tensor(labels), 5).float().view(
        2, 5, 1, 1).expand(2, 5, 4, 5)
    losses = dense.loss((x,), samples(labels, maps if with_maps else None, box))
    cls_logits, aux_logits = dense.both_logits(x)
    one_hot, share = F.one_hot(torch.tensor(labels), 5).float(), 6 / 20
    mixed = (1 - share) * one_hot + share * one_hot.flip(0)
    torch.testing.assert_close(losses['loss'], -(mixed * cls_logits.log_softmax(1)).sum(1).mean())
    own = paste_reversed(aux_logits, 1, 3, 2, 5).log_softmax(-1)
    torch.testing.assert_close(losses['loss_aux'], -0.5 * (maps.permute(0, 2, 3, 1) * own).sum(-1).mean())


def test_mixed_tokens_without_a_dense_head():
    plain, x = head(), torch.randn(2, 32, 4, 4)
    losses = plain.loss((x,), samples([0, 1], box=(0, 4, 0, 2)))
    expected = F.cross_entropy(plain((x,)), torch.tensor([[0.5, 0.5, 0, 0, 0]] * 2))
    assert set(losses) == {'loss'}
    torch.testing.assert_close(losses['loss'], expected)


@pytest.mark.parametrize(('mix_token', 'dense'), [(False, False), (True, True), (False, True)])
def test_in_a_classifier_every_parameter_learns(mix_token, dense):
    """As DDP with find_unused_parameters=False requires; the backbone has no unused parameters of detectors."""
    import mmpretrain.models  # noqa: F401
    classifier = MODELS.build(dict(
        type='ImageClassifier', backbone=dict(type='VOLO', arch=ARCH, img_size=64),
        data_preprocessor=dict(type='MixTokenDataPreprocessor' if mix_token else 'ClsDataPreprocessor'),
        head=dict(type='VOLOClsHead', num_classes=3, in_channels=32, num_heads=4, dense=dense)))
    classifier.init_weights()
    disturb(classifier)
    image = torch.randn(4, 3, 64, 48)
    batch = classifier.data_preprocessor(dict(inputs=image, data_samples=samples([0, 2, 1, 1])), True)
    losses = classifier(**batch, mode='loss')
    assert set(losses) == ({'loss', 'loss_aux'} if dense else {'loss'})
    sum(losses.values()).backward()
    assert not [name for name, p in classifier.named_parameters() if p.grad is None or not p.grad.any()]
    classifier.eval()
    logits = classifier(image, mode='tensor')
    for sample, row in zip(classifier(image, samples([0] * 4), mode='predict'), logits):
        torch.testing.assert_close(sample.pred_score, row.softmax(0))


def test_autocast():
    dense = head(dense=True)
    with torch.autocast('cpu', torch.bfloat16):
        losses = dense.loss((torch.randn(2, 32, 4, 4),), samples([1, 2], box=(0, 2, 0, 2)))
    assert all(loss.dtype == torch.float32 for loss in losses.values())
    sum(losses.values()).backward()
    assert all(p.grad.isfinite().all() for p in dense.parameters())
