"""Large-scale jitter: images per second of one transform against mmdet's sequence of four.

Both sides get the same photographs, annotations, scales (0.1 to 2.0, evenly spaced) and flips, on one thread, as in a
worker of a data loader. "Transforms" starts with the results of LoadImageFromFile and LoadAnnotations, "from file"
includes reading and decoding; both end with PackDetInputs. mmdet's configs load masks as bitmaps. If both sides do so
from file, decoding and rasterizing, which are the same code, take most of the time, so that row has no goal.
"""

import contextlib
import copy
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
import shapely
import torch
from mmdet.registry import TRANSFORMS
from mmdet.structures.mask import PolygonMasks

import vitdet_plugin  # noqa: F401  registers LargeScaleJitter
from benchmarks.harness import Row, interleave, is_selected
from vitdet_plugin.demo.demo_set import PHOTOGRAPHS, load_photograph
from vitdet_plugin.transforms.crop_window import CropWindow, jitter_window

SIDE = 1024
GOAL = 3.0
COCO_MINI = Path(__file__).resolve().parents[2] / 'shared' / 'data' / 'coco_mini'


def rows(quick: bool) -> Iterable[Row]:
    count, repeats = (6, 1) if quick else (40, 5)
    with one_thread(), tempfile.TemporaryDirectory() as folder:
        sets = [('', photographs(Path(folder), count))]
        if COCO_MINI.is_dir():
            sets.append((' (coco_mini)', _coco_mini(count)))
        for remark, infos in sets:
            yield _row(f'LSJ transforms, polygons{remark}', infos, repeats, polygons=(True, True))
            yield _row(f'LSJ transforms, polygons, pillow{remark}', infos, repeats, polygons=(True, True),
                       backend='pillow')
            yield _row(f'LSJ transforms, bitmaps{remark}', infos, repeats, polygons=(False, False))
            yield _row(f'LSJ from file, bitmaps{remark}', infos, repeats, polygons=(False, False), from_file=True)
            yield _row(f'LSJ from file, polygons{remark}', infos, repeats, polygons=(True, False), from_file=True)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Run OpenCV and torch on one thread."""
    before = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before[0])
        torch.set_num_threads(before[1])


def _row(path: str, infos: list[dict], repeats: int, polygons: tuple[bool, bool], from_file: bool = False,
         backend: str = 'cv2') -> Row | None:
    """Return one comparison; ``polygons``: whether either side (ours, mmdet's) loads masks as polygons."""
    if not is_selected(path):
        return None
    random = np.random.default_rng(0)
    scales = random.permutation(np.linspace(0.1, 2.0, len(infos)))
    draws = [(bool(random.random() < 0.5), float(scale), float(random.random())) for scale in scales]
    difference = measure_difference(infos, draws, polygons[0], backend)
    ours = _runner(infos, [_our_chain(draw, backend) for draw in draws], polygons[0], from_file)
    theirs = _runner(infos, [_mmdet_chain(draw, backend) for draw in draws], polygons[1], from_file)
    timing, _ = interleave(ours, theirs, repeats)
    note = f'{timing} for {len(infos)} images'
    form = 'polygons' if polygons[1] else 'bitmaps'
    reference = f'resize, crop, filter, flip; {form}'
    goal = None if from_file and not polygons[0] else GOAL
    return Row(path, reference, timing.ratio, None, goal, None, difference, 1.0, note, timing)


def _runner(infos: list[dict], chains: list[list], polygons: bool, from_file: bool) -> Callable[[], None]:
    """Return a function that runs every image through its pipeline once."""
    load, pack = _loaders(polygons), _build({'type': 'mmdet.PackDetInputs'})
    inputs = infos if from_file else [_apply(load, dict(info)) for info in infos]

    def run() -> None:
        for info, chain in zip(inputs, chains):
            # mmdet changes boxes in place
            results = _apply(load, dict(info)) if from_file else {**info, 'gt_bboxes': info['gt_bboxes'].clone()}
            _apply(chain + pack, results)

    return run


def _apply(transforms: list, results: dict) -> dict:
    for transform in transforms:
        results = transform(results)
    return results


def _build(*configs: dict) -> list:
    return [TRANSFORMS.build(config) for config in configs]


def _loaders(polygons: bool) -> list:
    return _build({'type': 'LoadImageFromFile'}, {'type': 'mmdet.LoadAnnotations', 'with_bbox': True,
                                                  'with_mask': True, 'poly2mask': not polygons})


def _our_chain(draw: tuple[bool, float, float], backend: str) -> list:
    jitter, = _build({'type': 'LargeScaleJitter', 'image_size': SIDE, 'resize_backend': backend})
    jitter._draw = lambda: draw
    return [jitter]


def _mmdet_chain(draw: tuple[bool, float, float], backend: str) -> list:
    """Build the transforms of mmdet's LSJ config, with the scale and flip of ``draw``; the crop remains random."""
    flip, scale, _ = draw
    chain = _build({'type': 'RandomResize', 'scale': (SIDE, SIDE), 'ratio_range': (0.1, 2.0), 'keep_ratio': True,
                    'resize_type': 'mmdet.Resize', 'backend': backend},
                   {'type': 'mmdet.RandomCrop', 'crop_type': 'absolute', 'crop_size': (SIDE, SIDE),
                    'recompute_bbox': True, 'allow_negative_crop': True},
                   {'type': 'mmdet.FilterAnnotations', 'min_gt_bbox_wh': (1e-2, 1e-2), 'keep_empty': False},
                   {'type': 'mmdet.RandomFlip', 'prob': float(flip)})
    chain[0]._random_scale = lambda: (int(SIDE * scale), int(SIDE * scale))
    return chain


def measure_difference(infos: list[dict], draws: list, polygons: bool, backend: str, ours: Callable | None = None
                       ) -> float:
    """Return the largest deviation from mmdet's transforms for the same window, in units of what is tolerated.

    The packed results of 12 images are compared: image, boxes, labels, and the mask of each object. Tolerated are

    - 1 gray level (2 with Pillow, which rounds after each axis),
    - 0.01 pixels at a box from polygons; a box from bitmaps may be off like its mask,
    - 0.1 pixels at a vertex, measured as the difference of the areas of polygons / their circumference,
    - 1 % of the pixels of a bitmap farther from the other outline than a pixel of the source (mmdet samples the source
      at a pixel's corner, we at its center).

    It is infinite if the number, order or labels of the objects differ.

    Args:
        infos, draws: images with their flip, scale and position.
        polygons: whether masks are polygons.
        backend: of the resize.
        ours: (draw, backend) -> transforms to compare; those of this project by default.
    """
    worst = 0.0
    pack = _build({'type': 'mmdet.PackDetInputs'})
    for info, (flip, scale, position) in zip(infos[:12], draws):
        loaded = _apply(_loaders(polygons), dict(info))
        window = jitter_window(loaded['img'].shape[:2], SIDE, scale, position, flip)
        copied = {**loaded, 'gt_bboxes': loaded['gt_bboxes'].clone(), 'gt_masks': copy.deepcopy(loaded['gt_masks'])}
        reference = _apply(_exact_chain(window, backend) + pack, copied)
        found = _apply((ours or _our_chain)((flip, scale, position), backend) + pack, loaded)
        images = [side['inputs'].int() for side in (found, reference)]
        if images[0].shape != images[1].shape:
            return float('inf')
        gray = (images[0] - images[1]).abs().max().item()
        worst = max(worst, gray / (1 if backend == 'cv2' else 2),
                    _objects_differ(*(side['data_samples'].gt_instances for side in (found, reference)),
                                    max(1.0, *window.factor)))
    return worst


def _objects_differ(ours, theirs, source_pixel: float) -> float:
    """Compare boxes, labels and masks of two images; see :func:`measure_difference`."""
    if len(ours) != len(theirs) or not torch.equal(ours.labels, theirs.labels):
        return float('inf')
    if not len(ours):
        return 0.0
    gaps = (ours.bboxes.tensor - theirs.bboxes.tensor).abs().max().item()
    if isinstance(ours.masks, PolygonMasks):
        return max(gaps / 0.01, *(_outlines_differ(mine, other) / 0.1
                                  for mine, other in zip(ours.masks.masks, theirs.masks.masks)))
    kernel = np.ones([2 * int(np.ceil(source_pixel)) + 3] * 2)
    worst = gaps / (2 * source_pixel + 1)
    for mine, other in zip(ours.masks.masks, theirs.masks.masks):
        beyond = (cv2.erode(mine, kernel) > other) | (cv2.erode(other, kernel) > mine)
        worst = max(worst, beyond.sum() / max(int(other.sum()), 1) / 0.01)
    return worst


def _outlines_differ(ours: list, theirs: list) -> float:
    """Return the area covered by one of two polygons, divided by the circumference: mean distance in pixels."""
    shapes = [shapely.union_all([shapely.make_valid(shapely.Polygon(np.reshape(part, (-1, 2)))) for part in side])
              for side in (ours, theirs)]
    return shapely.area(shapely.symmetric_difference(*shapes)) / max(shapely.length(shapes[1]), 1.0)


def _exact_chain(window: CropWindow, backend: str) -> list:
    """Build mmdet's transforms with all random values set to those of ``window``."""
    chain = _build({'type': 'mmdet.RandomFlip', 'prob': float(window.flip)},
                   {'type': 'mmdet.Resize', 'scale': window.scaled[::-1], 'keep_ratio': False, 'backend': backend},
                   {'type': 'mmdet.RandomCrop', 'crop_type': 'absolute', 'crop_size': window.size[::-1],
                    'recompute_bbox': True, 'allow_negative_crop': True},
                   {'type': 'mmdet.FilterAnnotations', 'min_gt_bbox_wh': (1e-5, 1e-5), 'keep_empty': False})
    chain[2]._rand_offset = lambda margin: window.offset
    return chain


def photographs(folder: Path, count: int) -> list[dict]:
    """Write 640 x 480 JPEGs of packaged photographs, each with seven instances of 20 to 60 vertices (as in COCO)."""
    images = [cv2.resize(load_photograph(package, file), (640, 480)) for package, file, *_ in PHOTOGRAPHS['train']]
    random = np.random.default_rng(0)
    infos = []
    for index in range(count):
        path = folder / f'{index}.jpg'
        cv2.imwrite(str(path), images[index % len(images)][..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
        instances = []
        for _ in range(7):
            vertices = int(random.integers(20, 61))
            turn = np.linspace(0, 2 * np.pi, vertices, endpoint=False)
            radius = np.exp(random.uniform(np.log(8), np.log(200))) * random.uniform(0.7, 1.3, (vertices, 1))
            outline = random.uniform((0, 0), (640, 480)) + radius * np.stack([np.cos(turn), np.sin(turn)], 1)
            inside = shapely.clip_by_rect(shapely.Polygon(outline), 0, 0, 640, 480)
            outline = shapely.get_coordinates(shapely.get_parts(inside)[0])[:-1]
            instances.append({'bbox': [*outline.min(0), *outline.max(0)], 'bbox_label': 0, 'ignore_flag': 0,
                              'mask': [outline.ravel().tolist()]})
        infos.append({'img_path': str(path), 'height': 480, 'width': 640, 'img_id': index, 'instances': instances})
    return infos


def _coco_mini(count: int) -> list[dict]:
    """Return the first images of a small part of COCO, without crowd annotations."""
    content = json.loads((COCO_MINI / 'annotations' / 'instances_train2017.json').read_text())
    instances: dict[int, list] = {}
    for item in content['annotations']:
        x, y, width, height = item['bbox']
        if not item['iscrowd'] and width >= 1 and height >= 1:
            instances.setdefault(item['image_id'], []).append(
                {'bbox': [x, y, x + width, y + height], 'bbox_label': 0, 'ignore_flag': 0,
                 'mask': item['segmentation']})
    return [{'img_path': str(COCO_MINI / 'train2017' / image['file_name']), 'height': image['height'],
             'width': image['width'], 'img_id': image['id'], 'instances': instances[image['id']]}
            for image in content['images'] if image['id'] in instances][:count]
