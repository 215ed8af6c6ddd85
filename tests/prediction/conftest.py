"""A tiny detector with random weights in a work directory, as training leaves it, and images for it."""

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from tests.end_to_end.tiny_set import CONFIG, write_tiny_set
from vitdet_plugin.api import Inferencer

CLASSES = ('red apple', 'lime', 'plum')


@pytest.fixture(scope='session')
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('run')
    init_default_scope('mmdet')
    from mmdet.registry import MODELS
    torch.manual_seed(0)
    cfg = Config.fromfile(CONFIG)
    model = MODELS.build(cfg.model)
    with torch.no_grad():  # blobs instead of noise: the masks are not all full
        model.roi_head.mask_head.conv_logits.weight *= 4
    torch.save(dict(state_dict=model.state_dict(), meta=dict(dataset_meta=dict(classes=CLASSES))),
               folder / 'best_coco_bbox_mAP_iter_2.pth')
    cfg.dump(folder / 'tiny_vitdet.py')
    return folder


@pytest.fixture(scope='session')
def images(tmp_path_factory):
    """Five images of two shapes, in two folders that have a name in common."""
    folder = tmp_path_factory.mktemp('images')
    write_tiny_set(folder / 'set', images=3)
    random = np.random.default_rng(0)
    for name in ('x/wide.png', 'y/wide.png'):
        (folder / name).parent.mkdir()
        blocks = random.integers(0, 255, (6, 10, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / name), cv2.resize(blocks, (100, 60), interpolation=cv2.INTER_NEAREST))
    return folder


@pytest.fixture(scope='session')
def detector(run_folder):
    return Inferencer.load(run_folder, device='cpu')
