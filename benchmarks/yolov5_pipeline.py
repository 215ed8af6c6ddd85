"""YOLOv5: mosaics per second, loss with assignment, inference of ConvNeXt-T at 640, each against a reference.

Mosaics: one warp against mmdet's Mosaic and RandomAffine, on the same photographs, with color, flip and packing on both
sides. The geometry is compared with that of two steps with the same random values (a mosaic, then an affine transform
about the center). Loss: assignment of all images at once against loops over images, objects, anchors and cells.
Inference: the detector with our channels-last backbone against that with timm's ConvNeXt.
"""

import copy
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
import timm
import torch
from mmdet.registry import DATASETS, TRANSFORMS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from torch import nn

import vitdet_plugin  # noqa: F401  registers
from benchmarks.harness import Row, compare, interleave, is_selected, largest_difference
from benchmarks.lsj import one_thread, photographs
from benchmarks.reference_yolov5_loss import loss_parts_by_loops
from vitdet_plugin.export.comparison import difference_of_rows

CONFIG = Path(__file__).resolve().parents[1] / 'configs/yolov5/yolov5_convnext-t_pafpn_adamw-300e_coco.py'
SIZE = 640


def rows(quick: bool) -> Iterable[Row]:
    count, repeats = (6, 1) if quick else (40, 5)
    with one_thread(), tempfile.TemporaryDirectory() as folder:
        infos = photographs(Path(folder), count)
        yield _mosaic_row('mosaic + affine, decoded images', infos, repeats, from_file=False)
        yield _mosaic_row('mosaic + affine, from file', infos, repeats, from_file=True)
        yield _mosaic_row('mosaic + affine, from file, ours cached', infos, repeats, from_file=True, cache_mb=1000)
    images, size = (2, 320) if quick else (16, SIZE)
    yield compare('loss + assignment + backward', 'loops over images and objects', partial(_our_loss, images, size),
                  partial(_loop_loss, images, size), tolerance=1e-4, repeats=repeats, memory=False,
                  note=f'{images} images of {size}, 80 classes, 8 objects each')
    size = 128 if quick else SIZE
    yield compare('ConvNeXt-T in YOLOv5, one image', "timm's backbone, NCHW", partial(_detector, size, True),
                  partial(_detector, size, False), tolerance=1e-4, repeats=repeats, memory=not quick,
                  check=_detections_differ, note=f'{size} x {size}, suppression included')


class _Memory:
    """A data set of loaded images with the interface that MultiImageMixDataset requires."""

    metainfo: dict = {}

    def __init__(self, infos: list[dict], transforms: list) -> None:
        self.infos, self.transforms = infos, transforms

    def full_init(self) -> None:
        """Nothing to load."""

    def __len__(self) -> int:
        return len(self.infos)

    def __getitem__(self, index: int) -> dict:
        results = copy.copy(self.infos[index])
        for transform in self.transforms:
            results = transform(results)
        return results


def _mixed(infos: list[dict], load: list[dict], pipeline: list[dict]):
    data = DATASETS.get('MultiImageMixDataset').__new__(DATASETS.get('MultiImageMixDataset'))
    data.dataset = _Memory(infos, [TRANSFORMS.build(step) for step in load])
    data.pipeline, data.pipeline_types = [TRANSFORMS.build(step) for step in pipeline], [s['type'] for s in pipeline]
    data._skip_type_keys, data.max_refetch, data._fully_initialized, data._ori_len = None, 15, True, len(infos)
    return data


def _mosaic_row(path: str, infos: list[dict], repeats: int, from_file: bool, cache_mb: int = 0) -> Row | None:
    if not is_selected(path):
        return None
    annotations = {'type': 'mmdet.LoadAnnotations', 'with_bbox': True}
    after = [{'type': 'MultiplicativeHSV'}, {'type': 'mmdet.RandomFlip', 'prob': 0.5}, {'type': 'mmdet.PackDetInputs'}]
    our_load = [annotations, {'type': 'LoadResizedImage', 'img_size': SIZE, 'cache_mb': cache_mb}]
    their_load = [{'type': 'LoadImageFromFile'}, annotations]
    ours = [{'type': 'MosaicAffine', 'img_size': SIZE}]
    theirs = [{'type': 'mmdet.Mosaic', 'img_scale': (SIZE, SIZE)},
              {'type': 'mmdet.RandomAffine', 'max_rotate_degree': 0.0, 'max_translate_ratio': 0.1,
               'scaling_ratio_range': (0.5, 1.5), 'max_shear_degree': 0.0, 'border': (-SIZE // 2, -SIZE // 2)}]
    if not from_file:
        infos, our_load, their_load = list(_Memory(infos, [TRANSFORMS.build(s) for s in their_load])), [], []
    our_set, their_set = _mixed(infos, our_load, ours + after), _mixed(infos, their_load, theirs + after)
    run = partial(_run, len(infos))
    timing, _ = interleave(partial(run, our_set), partial(run, their_set), repeats)
    note = f'{timing} for {len(infos)} images'
    if from_file:
        infos = list(_Memory(infos, [TRANSFORMS.build(s) for s in their_load]))
    return Row(path, 'mmdet Mosaic + RandomAffine', timing.ratio, None, difference=_geometry_differs(infos),
               tolerance=0.1, note=note, timing=timing)


def _run(count: int, data) -> None:
    np.random.seed(0)
    for index in range(count):
        data[index]


def _geometry_differs(infos: list[dict]) -> float:
    """Return the largest difference of a box corner, in pixels, from two steps with the same random values."""
    fused = TRANSFORMS.build({'type': 'MosaicAffine', 'img_size': SIZE})
    affine = TRANSFORMS.build({'type': 'CenteredRandomAffine', 'border': (-SIZE // 2, -SIZE // 2)})
    mosaic = TRANSFORMS.build({'type': 'mmdet.Mosaic', 'img_scale': (SIZE, SIZE), 'center_ratio_range': (1.0, 1.0)})
    fused.center = (1.0, 1.0)
    worst = 0.0
    for first in range(0, len(infos) - 3, 4):
        parts = copy.deepcopy(infos[first:first + 4])
        results = dict(parts[0], mix_results=parts[1:])
        two = mosaic.transform(copy.deepcopy(results))
        np.random.seed(first)
        np.random.uniform(size=2)  # the center
        two = affine.transform(two)
        np.random.seed(first)
        one = fused.transform(results)
        worst = max(worst, largest_difference(one['gt_bboxes'].tensor, two['gt_bboxes'].tensor))
    return worst


def _scene(images: int, size: int) -> tuple[list[torch.Tensor], torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    preds = [torch.randn(images, 3, size // s, size // s, 85, generator=generator) for s in (8, 16, 32)]
    targets = torch.rand(8 * images, 6, generator=generator) * torch.tensor([images, 80, size, size, 200, 200])
    targets[:, :2] = targets[:, :2].floor()
    targets[:, 4:] += 8
    return preds, targets


def _our_loss(images: int, size: int) -> Callable:
    from vitdet_plugin.heads.yolov5_head import YOLOv5Head
    preds, targets = _scene(images, size)
    head = YOLOv5Head(80, [1, 1, 1], gains=dict(box=1.0, cls=1.0, obj=1.0), scale_gains=False)

    def step() -> list:
        leaves = [pred.clone().requires_grad_() for pred in preds]
        parts = head.loss_of_targets(leaves, targets)
        sum(parts.values()).backward()
        return [parts[name] for name in ('loss_bbox', 'loss_obj', 'loss_cls')] + [leaf.grad.sum() for leaf in leaves]
    return step


def _loop_loss(images: int, size: int) -> Callable:
    from vitdet_plugin.heads.yolov5_head import COCO_ANCHORS
    preds, targets = _scene(images, size)

    def step() -> list:
        leaves = [pred.clone().requires_grad_() for pred in preds]
        parts = loss_parts_by_loops(leaves, targets, COCO_ANCHORS, (8, 16, 32), (4.0, 1.0, 0.4))
        sum(parts).backward()
        return [*parts, *(leaf.grad.sum() for leaf in leaves)]
    return step


class _TimmBackbone(nn.Module):
    """timm's ConvNeXt with our norms on its maps."""

    def __init__(self, ours: nn.Module) -> None:
        super().__init__()
        self.model = timm.create_model('convnext_tiny', num_classes=0)
        own = {name: value for name, value in ours.state_dict().items() if not name.startswith('norm')}
        missing = self.model.load_state_dict(own, strict=False).unexpected_keys
        assert not missing
        self.norms = nn.ModuleList([copy.deepcopy(getattr(ours, f'norm{i}')) for i in (1, 2, 3)])

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        maps = self.model.forward_intermediates(x, indices=[1, 2, 3], intermediates_only=True)
        return tuple(norm(each) for norm, each in zip(self.norms, maps))


def _detector(size: int, is_ours: bool) -> Callable:
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules
    register_all_modules(init_default_scope=True)
    model = Config.fromfile(CONFIG).model
    model.backbone.update(init_cfg=None, layer_scale_init_value=1.0)
    model.test_cfg = dict(score_thr=0.25, iou_threshold=0.45)
    torch.manual_seed(0)
    model = MODELS.build(model).eval()
    if not is_ours:
        model.backbone = _TimmBackbone(model.backbone).eval()
    image = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(1))
    sample = DetDataSample(metainfo=dict(img_shape=(size, size), ori_shape=(size, size), scale_factor=(1.0, 1.0)))

    @torch.no_grad()
    def step():
        found = model.predict(image, [sample.clone()])[0].pred_instances
        assert len(found)
        return found
    return step


def _detections_differ(ours, theirs) -> float:
    """Return the largest difference of a score or, in fractions of the longest side, of a corner."""
    rows = [[each.bboxes.numpy(), each.scores.numpy(), each.labels.numpy()] for each in (ours, theirs)]
    return difference_of_rows(*rows, SIZE)
