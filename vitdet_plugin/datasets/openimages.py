"""OpenImages V6 with its class names in the type, so that heads can be checked before the files are read."""

from mmdet.datasets import OpenImagesDataset
from mmdet.evaluation.functional import oid_v6_classes
from mmengine.registry import DATASETS

from vitdet_plugin.errors import UserError


@DATASETS.register_module()
class OpenImagesDetDataset(OpenImagesDataset):
    """Boxes of OpenImages V6, 601 classes in the order of ``class-descriptions-boxable.csv``.

    Args:
        **kwargs: Arguments of mmdet's ``OpenImagesDataset``. ``metainfo=dict(classes=...)`` gives other classes: the
            names in ``label_file``, in its order.

    Raises:
        UserError: ``label_file`` has other classes.
    """

    METAINFO = dict(dataset_type='oid_v6', classes=tuple(oid_v6_classes()))

    def _parse_label_file(self, label_file: str) -> tuple[list[str], dict[str, int]]:
        """Read the names, and the index of each id; compare the names with those of the config."""
        names, index = super()._parse_label_file(label_file)
        expected = list(self.metainfo['classes'])
        if names != expected:
            first = next((i for i, pair in enumerate(zip(names, expected)) if len(set(pair)) > 1),
                         min(len(names), len(expected)))
            raise UserError(f'{label_file} has {len(names)} classes, {len(expected)} are required; they differ from '
                            f'row {first + 1} on. Use the file of OpenImages V6 or set metainfo=dict(classes=...)')
        return names, index
