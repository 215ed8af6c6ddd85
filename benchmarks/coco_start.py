"""Start of a training on a file of COCO's size: samples packed and shared, against mmdet's loading in every rank."""

import gc
import os
import shutil
import tempfile
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.coco_file import IMAGES, OBJECTS, class_names, write_coco_file
from benchmarks.harness import compare

_COMPARED = 97  # every one of so many samples is compared


def loading(path: Path, cache: str, is_first: bool):
    """Return a step that builds the data set, and returns values of some of its samples.

    Args:
        path: Annotation file.
        cache: Folder of the shared samples; 'off' for mmdet's own loading.
        is_first: Whether the step finds no shared samples, as the first rank does.
    """
    import vitdet_plugin
    vitdet_plugin.register_all()
    from mmdet.datasets import CocoDataset
    from mmengine.registry import init_default_scope

    from vitdet_plugin.compat import coco_start
    from vitdet_plugin.utils.output import suppress_output
    init_default_scope('mmdet')
    coco_start.SHARED_BYTES = 0

    def build():
        os.environ[coco_start.CACHE_VARIABLE] = cache
        with suppress_output():
            return CocoDataset(ann_file=str(path), data_prefix=dict(img='images/'), pipeline=[],
                               metainfo=dict(classes=class_names()), filter_cfg=dict(filter_empty_gt=True, min_size=32))

    def step():
        if is_first and cache != 'off':
            shutil.rmtree(cache, ignore_errors=True)
        dataset = build()
        return [_values(dataset[index]) for index in range(0, len(dataset), _COMPARED)]

    if not is_first:
        build()
        gc.collect()
    return step


def _values(sample: dict) -> list[float]:
    boxes = [value for each in sample['instances'] for value in (*each['bbox'], each['bbox_label'])]
    masks = [value for each in sample['instances'] if isinstance(each.get('mask'), list)
             for part in each['mask'] for value in part]
    return [sample['img_id'], sample['width'], sample['height'], len(boxes), float(np.sum(boxes)), len(masks),
            float(np.sum(masks))]


def rows(quick: bool):
    images, objects = (300, 2000) if quick else (IMAGES, OBJECTS)
    with tempfile.TemporaryDirectory(prefix='coco-start-') as folder:
        path = write_coco_file(Path(folder) / 'train.json', images, objects)
        cache = str(Path(folder) / 'cache')
        size = f'{images} images, {objects} objects, {path.stat().st_size / 1e6:.0f} MB'
        for name, is_first, time_goal, memory_goal in (('first rank', True, 3.3, 2.9),
                                                       ('further rank', False, 10, 8.8)):
            yield compare(f'COCO start, {name}, {size}', "mmdet's CocoDataset",
                          partial(loading, path, cache, is_first), partial(loading, path, 'off', True), tolerance=0,
                          time_goal=None if quick else time_goal, memory_goal=None if quick else memory_goal, repeats=1)
