import torch

from vitdet_plugin.backbones.vitdet import ViTDet
from vitdet_plugin.demo.dense_pretraining import DenseHead, DenseSet, pretrain


def one_object_set(size=32):
    """Return one image with a bright object of 8 x 12 pixels, of class 1 of 2."""
    images = torch.zeros(1, size, size, 3, dtype=torch.uint8)
    objects = torch.zeros(1, size, size, dtype=torch.uint8)
    images[0, 4:12, 8:20], objects[0, 4:12, 8:20] = 255, 1
    classes = torch.zeros(1, 32, dtype=torch.uint8)
    boxes = torch.zeros(1, 32, 4)
    classes[0, 0], boxes[0, 0] = 2, torch.tensor([8.0, 4, 20, 12])
    return DenseSet(images, objects, classes, boxes, num_classes=2)


def test_images_classes_and_boxes_of_a_batch_match():
    data = one_object_set()
    images, classes, boxes = data.batch(64, 24, torch.Generator().manual_seed(0))
    for image, label, box in zip(images, classes, boxes, strict=True):
        assert torch.equal(image[0] == 255, label == 2)
        if (label == 2).any():
            rows, columns = torch.nonzero(label == 2).unbind(1)
            expected = torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()
            assert torch.equal(box[rows[0], columns[0]], expected)
        assert not box[label == 0].any()


def test_batches_are_flipped():
    images, _, _ = one_object_set().batch(64, 32, torch.Generator().manual_seed(0))
    left_edges = {int(torch.nonzero(image[0] == 255)[:, 1].min()) for image in images}
    assert left_edges == {8, 12}


def test_the_head_maps_each_token_to_its_pixels():
    head = DenseHead(dim=4, patch_size=2, num_classes=1)
    torch.nn.init.zeros_(head.classes.weight)
    classes = torch.tensor([[[0, 1, 0, 1], [0, 0, 0, 0]]])  # the top right pixel of each patch
    bias = torch.full((2, 2, 2), 0.0)
    bias[..., 0] = 20
    bias[0, 1] = torch.tensor([0.0, 20.0])
    head.classes.bias.data = bias.flatten()
    tokens, boxes = torch.randn(1, 4, 1, 2), torch.zeros(1, 2, 4, 4)
    right = head.loss(tokens, classes, boxes)
    wrong = head.loss(tokens, classes.flip(2), boxes)
    assert right < 1e-3  # no object at the center of a token, so only the class loss counts
    assert wrong > right + 5


def test_the_loss_decreases_and_is_reproducible():
    def run():
        torch.manual_seed(0)
        backbone = ViTDet(dict(embed_dim=16, depth=2, num_heads=2), img_size=32, patch_size=8, window_size=2,
                          pretrain_img_size=32, pretrain_use_cls_token=False)
        lines = []
        pretrain(backbone, one_object_set(), steps=60, batch=4, crop=24, lr=3e-3, report=lines.append)
        return [float(line.split('loss ')[1].split()[0]) for line in lines], backbone.state_dict()

    losses, weights = run()
    again, same_weights = run()
    assert losses[-1] < losses[0]
    assert losses == again and all(torch.equal(weights[name], same_weights[name]) for name in weights)
