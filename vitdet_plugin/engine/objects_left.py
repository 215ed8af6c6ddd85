"""A training set without any object to train on is refused: all losses but those of the background would be 0."""

from typing import Any

from mmengine.dataset import BaseDataset

from vitdet_plugin.errors import UserError


def require_objects(dataset: Any) -> None:
    """Check that a training set holds an object that is not ignored; with masks in the pipeline, one with a mask.

    The check before a run reports the same with the reason, but reads the annotations of files up to 64 MB only.

    Args:
        dataset: Data set or a wrapper of others. Sets with ``test_mode`` and those without ``instances`` are skipped.

    Raises:
        UserError: Every object is ignored.
    """
    for part in getattr(dataset, 'datasets', [getattr(dataset, 'dataset', None)]):
        if part is not None:
            require_objects(part)
    if not isinstance(dataset, BaseDataset) or dataset.test_mode or not len(dataset):
        return
    with_masks = any(getattr(step, 'with_mask', False) for step in dataset.pipeline.transforms)
    ignored = 0
    for index in range(len(dataset)):
        instances = dataset.get_data_info(index).get('instances')
        if not isinstance(instances, list):
            return
        for instance in instances:
            if 'ignore_flag' not in instance:
                return
            if not instance['ignore_flag'] and (instance.get('mask') or not with_masks):
                return
            ignored += 1
    if ignored:
        raise UserError(f'{dataset.ann_file}: nothing is left to train on: each of the {ignored} objects is a crowd '
                        f'region{" or has no usable mask" if with_masks else ""}; \'vitdet check\' lists them')
