"""Augmentations of the classification configs: images and batches of any size, soft targets."""

import copy

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope

from tests.configs.loading import CONFIGS, load
from vitdet_plugin.config.loading import load_config

CLASSES = 5


@pytest.fixture(scope='module', autouse=True)
def scope():
    load('classification/vit-tiny_50e_plant-seedlings')


def mix(augments: list, batch: int, probs: list | None = None, seed: int = 0):
    """Return a batch after mmpretrain's preprocessor; the pixels of each image are equal to its label."""
    init_default_scope('mmpretrain')
    from mmpretrain.registry import MODELS
    from mmpretrain.structures import DataSample
    np.random.seed(seed)
    torch.manual_seed(seed)
    preprocessor = MODELS.build(dict(type='ClsDataPreprocessor', num_classes=CLASSES, batch_augments=dict(
        augments=augments, **(dict(probs=probs) if probs else {}))))
    inputs = [torch.full((3, 16, 24), float(label % CLASSES)) for label in range(batch)]
    samples = [DataSample().set_gt_label(label % CLASSES) for label in range(batch)]
    data = preprocessor(dict(inputs=inputs, data_samples=samples), training=True)
    return data['inputs'], torch.stack([sample.gt_score for sample in data['data_samples']])


@settings(max_examples=40)
@given(kind=st.sampled_from(['Mixup', 'CutMix', 'ResizeMix']), batch=st.integers(1, 7), seed=st.integers(0, 10**6))
def test_soft_targets_are_the_proportions_of_the_classes(kind, batch, seed):
    inputs, scores = mix([dict(type=kind, alpha=1.0)], batch, seed=seed)
    assert inputs.shape == (batch, 3, 16, 24) and scores.shape == (batch, CLASSES)
    torch.testing.assert_close(scores.sum(1), torch.ones(batch))
    means = inputs.mean((1, 2, 3))  # pixels are equal to the label, so their mean is the expected label of the target
    torch.testing.assert_close(means, scores @ torch.arange(CLASSES).float(), atol=1e-4, rtol=0)


def test_the_remaining_probability_leaves_batches_unchanged():
    augments = [dict(type='Mixup', alpha=1.0), dict(type='CutMix', alpha=1.0)]
    hard = [bool((mix(augments, 5, [0.25, 0.25], seed)[1].max(1)[0] == 1).all()) for seed in range(60)]
    assert 15 < sum(hard) < 45


def test_label_smoothing_of_mixed_targets():
    from mmpretrain.registry import MODELS
    loss = MODELS.build(dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'))
    _, scores = mix([dict(type='Mixup', alpha=1.0)], 3)
    logits = torch.randn(3, CLASSES)
    expected = -((0.9 * scores + 0.1 / CLASSES) * F.log_softmax(logits, 1)).sum(1).mean()
    torch.testing.assert_close(loss(logits, scores, avg_factor=3), expected)
    labels = torch.tensor([4, 0, 2])
    torch.testing.assert_close(loss(logits, labels), F.cross_entropy(logits, labels, label_smoothing=0.1))


def pipelines() -> dict[str, list]:
    """Training pipelines by name: those of the base files, and one with Cutout as in the tutorials."""
    found = {path.stem: load_config(str(path)).train_pipeline
             for path in sorted((CONFIGS / '_base_/datasets').glob('*.py'))
             if path.stem.startswith(('imagenet', 'plant'))}
    cut = copy.deepcopy(found['plant_seedlings'])
    cut.insert(-1, dict(type='Cutout', shape=16, pad_val=0, prob=1.0))
    return {**found, 'cutout': cut}


@pytest.mark.parametrize('name', ['imagenet_224', 'imagenet_3aug_224', 'plant_seedlings', 'cutout'])
@pytest.mark.parametrize('shape', [(160, 160, 3), (37, 211, 3), (1, 1, 3), (50, 40)], ids=str)
def test_images_of_any_shape(name, shape, tmp_path):
    steps = pipelines()[name]
    cv2.imwrite(str(tmp_path / 'a b.png'), np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8))
    np.random.seed(0)
    pipeline = Compose(Config(dict(steps=steps)).steps)
    sides = {'imagenet_224': 224, 'imagenet_3aug_224': 224}
    for _ in range(6):
        data = pipeline(dict(img_path=str(tmp_path / 'a b.png'), gt_label=1))
        assert data['inputs'].shape == (3, *[sides.get(name, 128)] * 2) and data['inputs'].dtype == torch.uint8
        assert data['data_samples'].gt_label.tolist() == [1]


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(0, CLASSES - 1), st.integers(0, CLASSES - 1)), min_size=1, max_size=30))
def test_macro_f1_equals_that_of_scikit_learn(pairs):
    """Classes without predictions or without samples count as 0, as with labels=all and zero_division=0."""
    from mmpretrain.evaluation import Accuracy, SingleLabelMetric
    from sklearn.metrics import f1_score
    truth, predicted = (torch.tensor(each) for each in zip(*pairs))
    scores = F.one_hot(predicted, CLASSES).float()
    f1 = SingleLabelMetric.calculate(scores, truth)[0][2]
    expected = f1_score(truth, predicted, labels=range(CLASSES), average='macro', zero_division=0)
    assert float(f1) == pytest.approx(100 * expected, abs=1e-3)
    accuracy = 100 * float((truth == predicted).float().mean())
    assert float(Accuracy.calculate(scores, truth)[0][0]) == pytest.approx(accuracy, abs=1e-3)
