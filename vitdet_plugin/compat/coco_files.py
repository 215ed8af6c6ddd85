"""mmdet reads COCO files as other tools write them: ids, flags, names and masks are converted or ignored openly."""

import functools
import json
from pathlib import Path
from typing import Any

from vitdet_plugin.coco.content import number_annotations, prepare_coco
from vitdet_plugin.compat.patching import Patch
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.class_names import class_names
from vitdet_plugin.utils.mask_outlines import mask_outlines
from vitdet_plugin.utils.text_files import describe_encoding

_UPSTREAM = 'mmdet 3.3, onedl-mmdetection 3.5'
_API = 'mmdet.datasets.api_wrappers.COCO'
_READ = Patch(_API, '__init__', upstream=_UPSTREAM,
              why='text ids, missing keys, repeated category names and annotation id 0 give errors or wrong results')
_RESULTS = Patch(_API, 'loadRes', upstream=_UPSTREAM, why='results refer to ids as the file has them, also as text')
_WRITE = Patch('mmdet.evaluation.metrics.CocoMetric', 'results2json', upstream=_UPSTREAM,
               why='predictions are written with the ids of the file')
_MASKS = Patch('mmdet.datasets.transforms.LoadAnnotations', '_process_masks', upstream=_UPSTREAM,
               why='RLE is ignored with poly2mask=False, and an annotation without a mask is a KeyError')
_CLASSES = Patch('mmengine.dataset.BaseDataset', '_load_metainfo', upstream='mmengine 0.10',
                 why='blank lines, a byte order mark or numbers become class names')


def install() -> None:
    """Replace how mmdet reads COCO files, loads masks and writes predictions, once."""
    _READ.install(_read_prepared)
    _RESULTS.install(_load_results)
    _WRITE.install(_write_original_ids)
    _MASKS.install(_process_any_mask)
    _CLASSES.install(_read_clean_names)


def _read_prepared(init):
    @functools.wraps(init)
    def read(self, annotation_file=None):
        init(self)
        if annotation_file is None:
            return
        content = _load(annotation_file)
        if not isinstance(content, dict):
            raise UserError(f'{annotation_file}: not a COCO file: expected an object, found a {type(content).__name__}')
        if not _is_panoptic(content):
            prepared = prepare_coco(content)
            for change in prepared.changes:
                if change.level == 'error':
                    raise UserError(f'{annotation_file}: {change.kind}: {change.where}')
            content = number_annotations(prepared.content)
            self.image_ids, self.category_ids = prepared.image_ids, prepared.category_ids
        self.dataset = content
        self.createIndex()
        self.img_ann_map, self.cat_img_map = self.imgToAnns, self.catToImgs

    return read


def _load(path: str) -> Any:
    try:
        with open(path, encoding='utf-8-sig') as file:
            return json.load(file)
    except (ValueError, RecursionError) as error:
        where = f' at line {error.lineno}, column {error.colno}' if isinstance(error, json.JSONDecodeError) else ''
        reason = describe_encoding(Path(path).read_bytes()) or f'{getattr(error, "msg", error)}{where}'
        raise UserError(f'{path}: not valid JSON: {reason}') from error


def _is_panoptic(content: dict) -> bool:
    annotations = content.get('annotations')
    return bool(annotations) and isinstance(annotations[0], dict) and 'segments_info' in annotations[0]


def _load_results(load):
    @functools.wraps(load)
    def load_any_ids(self, results):
        replaced = {key: {original: new for new, original in getattr(self, f'{what}_ids', {}).items()}
                    for what, key in (('image', 'image_id'), ('category', 'category_id'))}
        if isinstance(results, list) and any(replaced.values()):
            results = [{**each, **{key: new.get(each[key], each[key]) for key, new in replaced.items() if key in each}}
                       for each in results]
        return load(self, results)

    return load_any_ids


def _write_original_ids(results2json):
    @functools.wraps(results2json)
    def write(self, results, outfile_prefix):
        image_ids = getattr(self._coco_api, 'image_ids', None)
        category_ids = getattr(self._coco_api, 'category_ids', None)
        if not image_ids and not category_ids:
            return results2json(self, results, outfile_prefix)
        results = [{**result, 'img_id': image_ids.get(result['img_id'], result['img_id'])} if 'img_id' in result
                   else result for result in results]
        numbers = self.cat_ids
        self.cat_ids = [category_ids.get(key, key) for key in numbers]
        try:
            return results2json(self, results, outfile_prefix)
        finally:
            self.cat_ids = numbers

    return write


def _process_any_mask(process_masks):
    @functools.wraps(process_masks)
    def process(self, results):
        instances = results.get('instances', [])
        loaded = {**results, 'instances': [{**each, 'mask': convert(self, each, results)} for each in instances]}
        masks = process_masks(self, loaded)
        results['gt_ignore_flags'] = loaded['gt_ignore_flags']
        for instance, each in zip(instances, loaded['instances']):
            instance['ignore_flag'] = each['ignore_flag']
        return masks

    def convert(self, instance, results):
        mask = instance.get('mask') or []  # ignored, as mmdet ignores polygons that are too short
        if isinstance(mask, dict) and not self.poly2mask and not instance['ignore_flag']:
            return mask_outlines(self._poly2mask(mask, *results['ori_shape']))
        return mask

    return process


def _read_clean_names(load_metainfo):
    @functools.wraps(load_metainfo)
    def load(cls, metainfo=None):
        names = class_names(metainfo.get('classes')) if isinstance(metainfo, dict) else None
        if names is not None:
            metainfo = {**metainfo, 'classes': tuple(names)}
        return load_metainfo.__func__(cls, metainfo)

    return classmethod(_CLASSES.mark(load))
