"""The federated sigmoid loss compared with loops, and its errors for bad frequency files."""

import json

import pytest
import torch
from mmengine.registry import MODELS

from vitdet_plugin.errors import UserError
from vitdet_plugin.heads.federated_loss import FederatedFocalLoss, FederatedSigmoidLoss

CLASSES = 6
SCORES = torch.randn(5, CLASSES + 1, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([2, CLASSES, 4, 2, CLASSES])


def naive(scores, labels, counted):
    """-log p of every counted class of every box, over the number of boxes."""
    total = 0.0
    for row, label in zip(scores, labels):
        for c in counted:
            p = torch.sigmoid(row[c])
            total -= torch.log(p if c == label else 1 - p)
    return total / len(scores)


def test_without_frequencies_every_class_counts():
    torch.testing.assert_close(FederatedSigmoidLoss()(SCORES, LABELS), naive(SCORES, LABELS, range(CLASSES)))


def test_present_and_sampled_absent_classes_count():
    """Only class 5 can be drawn, so the sample is deterministic: 2 and 4 are present, 5 is drawn."""
    loss = FederatedSigmoidLoss(frequencies=[0, 0, 9, 0, 9, 1])
    torch.testing.assert_close(loss(SCORES, LABELS), naive(SCORES, LABELS, [2, 4, 5]))


def test_num_sampled_limits_the_classes_and_includes_background():
    """As in detectron2: one of the 4 counted labels is the background, which has no classifier."""
    loss = FederatedSigmoidLoss(frequencies=[1] * CLASSES, num_sampled=4)
    for _ in range(20):
        counted = loss._sampler(LABELS, CLASSES)
        assert counted[[2, 4]].all() and counted.sum() == 3
    few = FederatedSigmoidLoss(frequencies=[1] * CLASSES, num_sampled=1)
    assert few._sampler(LABELS, CLASSES).tolist() == [0, 0, 1, 0, 1, 0]  # present classes always count


def test_absent_classes_are_drawn_by_frequency_to_the_power():
    torch.manual_seed(0)
    loss = FederatedSigmoidLoss(frequencies=[100, 25, 4, 1, 0, 9], num_sampled=1, power=0.5)
    drawn = sum(loss._sampler(torch.empty(0, dtype=torch.long), CLASSES) for _ in range(3000)) / 3000
    expected = torch.tensor([10.0, 5, 2, 1, 0, 3]) / 21
    assert (drawn - expected).abs().max() < 0.03


def test_weights_average_factor_and_loss_weight():
    loss = FederatedSigmoidLoss(loss_weight=2.0)
    weights = torch.tensor([1.0, 0, 0, 0, 0])
    expected = 2.0 * naive(SCORES[:1], LABELS[:1], range(CLASSES))
    torch.testing.assert_close(loss(SCORES, LABELS, weights, avg_factor=1.0), expected)


def test_the_background_output_receives_no_gradient():
    scores = SCORES.clone().requires_grad_()
    FederatedSigmoidLoss()(scores, LABELS).backward()
    assert (scores.grad[:, -1] == 0).all() and (scores.grad[:, :-1] != 0).all()


def test_no_boxes_give_zero_with_a_gradient():
    scores = torch.empty(0, CLASSES + 1, requires_grad=True)
    loss = FederatedSigmoidLoss()(scores, torch.empty(0, dtype=torch.long))
    assert loss == 0 and loss.requires_grad


def test_activation_and_its_inverse():
    loss = FederatedSigmoidLoss()
    probabilities = loss.get_activation(SCORES)
    torch.testing.assert_close(probabilities[:, :-1], SCORES[:, :-1].sigmoid())
    assert (probabilities[:, -1] == 0).all()
    torch.testing.assert_close(loss.get_activation(loss.invert_activation(probabilities)), probabilities)


def test_accuracy_is_over_the_foreground():
    scores = torch.zeros(3, CLASSES + 1)
    scores[0, 2] = scores[1, 3] = scores[2, 1] = 1
    accuracy = FederatedSigmoidLoss().get_accuracy(scores, torch.tensor([2, 4, CLASSES]))
    assert accuracy['acc_classes'] == 50
    assert FederatedSigmoidLoss().get_accuracy(scores, torch.full((3,), CLASSES))['acc_classes'] == 0


def lvis_file(tmp_path, content):
    path = tmp_path / 'lvis.json'
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def test_frequencies_from_an_lvis_file_are_ordered_by_category_id(tmp_path):
    categories = [dict(id=i, image_count=count) for i, count in ((3, 30), (1, 10), (2, 0), (6, 60), (5, 50), (4, 40))]
    loss = MODELS.build(dict(type='FederatedSigmoidLoss', frequencies=lvis_file(tmp_path, dict(categories=categories)),
                             num_sampled=CLASSES))
    assert loss(SCORES, LABELS).isfinite()
    torch.testing.assert_close(loss._sampler._class_weights, torch.tensor([10.0, 0, 30, 40, 50, 60]).sqrt())


@pytest.mark.parametrize(('content', 'message'), [
    (dict(categories=[dict(id=1, name='a')]), 'have no image_count; give an LVIS annotation file'),
    (dict(categories=[dict(image_count=1)]), 'have no image_count'), (dict(categories=[1]), 'have no image_count'),
    (dict(images=[]), 'no categories'),
    ([1, 2], 'no categories'),
    ('{"categories": [', 'not valid JSON'),
])
def test_invalid_lvis_annotation_files(tmp_path, content, message):
    path = lvis_file(tmp_path, content)
    with pytest.raises(UserError, match=message) as caught:
        FederatedSigmoidLoss(frequencies=path)(SCORES, LABELS)
    assert path in str(caught.value) and '\n' not in str(caught.value)


def test_a_missing_file():
    with pytest.raises(UserError, match='nowhere.json does not exist'):
        FederatedSigmoidLoss(frequencies='nowhere.json')(SCORES, LABELS)


def test_a_wrong_number_of_frequencies():
    with pytest.raises(UserError, match='frequencies of 3 classes were given, but the box head has 6'):
        FederatedSigmoidLoss(frequencies=[1, 2, 3])(SCORES, LABELS)


def test_focal_loss_counts_the_sampled_classes_only():
    """Only class 5 can be drawn: the loss is mmdet's over 2, 4 and 5, and the others have no gradient."""
    from mmdet.models.losses import FocalLoss
    scores, weights = SCORES[:, :-1].clone().requires_grad_(), torch.tensor([1.0, 0.5, 1, 1, 0])
    loss = FederatedFocalLoss([0, 0, 9, 0, 9, 1], loss_weight=2.0)(scores, LABELS, weights, avg_factor=3.0)
    kept = torch.tensor([2, 4, 5])
    labels = torch.tensor([0, 3, 1, 0, 3])  # of the three classes; 3 is background
    expected = FocalLoss(loss_weight=2.0)(SCORES[:, kept], labels, weights, avg_factor=3.0)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert (scores.grad[:, kept][:4] != 0).all() and (scores.grad[:, [0, 1, 3]] == 0).all()
