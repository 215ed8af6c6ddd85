"""LVIS v1 (arXiv 1908.03195) without the ``lvis`` package, which fails with NumPy 1.24 and later."""

from mmdet.datasets import CocoDataset, LVISV1Dataset
from mmengine.registry import DATASETS

from vitdet_plugin.datasets.coco import image_file_name
from vitdet_plugin.errors import UserError


@DATASETS.register_module()
class LVISDetDataset(CocoDataset):
    """An LVIS annotation file as a detection data set.

    LVIS names its images by ``coco_url`` only and mixes those of COCO's train2017 and val2017: the file of an image is
    ``<data_prefix img>/train2017/000000000009.jpg``.

    Args:
        **kwargs: Arguments of ``CocoDataset``. ``metainfo=dict(classes=...)`` selects a subset or another vocabulary.

    Raises:
        UserError: The file lacks some of the classes, or an image has no file name.
    """

    METAINFO = LVISV1Dataset.METAINFO

    def full_init(self) -> None:
        """Load the annotations as ``CocoDataset`` does, and compare the classes."""
        super().full_init()
        if len(self.cat_ids) != len(self.metainfo['classes']):
            raise UserError(f'{self.ann_file} has {len(self.cat_ids)} of the {len(self.metainfo["classes"])} classes '
                            'required; give metainfo=dict(classes=...) with the names in the file')

    def parse_data_info(self, raw_data_info: dict) -> dict:
        """Add the file name that the images of COCO have."""
        image = raw_data_info['raw_img_info']
        name = image_file_name(image)
        if name is None:
            raise UserError(f'{self.ann_file}: image {image.get("id")} has neither file_name nor coco_url')
        image['file_name'] = name
        return super().parse_data_info(raw_data_info)

    # samples depend on the file only, so that ranks share them (compat/coco_start.py)
    parse_data_info.has_same_rules = True  # type: ignore[attr-defined]
