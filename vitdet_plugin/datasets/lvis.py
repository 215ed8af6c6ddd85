"""LVIS v1 (arXiv 1908.03195) without the ``lvis`` package, which numpy 1.24 and later break."""

from mmdet.datasets import CocoDataset, LVISV1Dataset
from mmengine.registry import DATASETS

from vitdet_plugin.errors import UserError


@DATASETS.register_module()
class LVISDetDataset(CocoDataset):
    """An LVIS annotation file as a detection data set.

    LVIS names its pictures by ``coco_url`` only and mixes those of COCO's train2017 and val2017: their files are
    looked for as ``<data_prefix img>/train2017/000000000009.jpg``.

    Args:
        **kwargs: of ``CocoDataset``. ``metainfo=dict(classes=...)`` takes a subset or another vocabulary.

    Raises:
        UserError: the file lacks some of the classes.
    """

    METAINFO = LVISV1Dataset.METAINFO

    def load_data_list(self) -> list[dict]:
        """One dict a picture, as ``CocoDataset`` has it."""
        pictures = super().load_data_list()
        if len(self.cat_ids) != len(self.metainfo['classes']):
            raise UserError(f'{self.ann_file} has {len(self.cat_ids)} of the {len(self.metainfo["classes"])} classes '
                            'wanted; give metainfo=dict(classes=...) with the names in the file')
        return pictures

    def parse_data_info(self, raw_data_info: dict) -> dict:
        """Give the picture the file name that COCO files have."""
        picture = raw_data_info['raw_img_info']
        if 'file_name' not in picture:
            picture['file_name'] = '/'.join(picture['coco_url'].split('/')[-2:])
        return super().parse_data_info(raw_data_info)
