"""The padding that mmdet's own data preprocessor writes is what ``mask_padding`` finds."""

import torch

from tests.backbones.registered import tiny
from vitdet_plugin.backbones.vision_lstm import VisionLSTM
from vitdet_plugin.layers.padding import filled_sizes


def test_sizes_of_a_real_batch_are_found():
    from mmdet.models import DetDataPreprocessor
    from mmdet.structures import DetDataSample
    preprocessor = DetDataPreprocessor(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True,
                                       pad_size_divisor=32)
    sizes = [(50, 70), (64, 33), (17, 96)]
    images = [torch.randint(0, 256, (3, *size), dtype=torch.uint8) for size in sizes]
    images[1].zero_()  # black, and the mean rounded: neither is padding
    images[2][:] = torch.tensor([104, 116, 124], dtype=torch.uint8)[:, None, None]
    samples = [DetDataSample(metainfo=dict(img_shape=size)) for size in sizes]
    batch = preprocessor(dict(inputs=images, data_samples=samples))
    assert batch['inputs'].shape == (3, 3, 64, 96)
    assert [sample.img_shape for sample in batch['data_samples']] == sizes
    assert filled_sizes(batch['inputs']).tolist() == [list(size) for size in sizes]

    model = tiny(VisionLSTM, mask_padding=True).eval()
    with torch.no_grad():
        found = model(batch['inputs'])[0]
        torch.testing.assert_close(found, model(batch['inputs'], sizes)[0])
