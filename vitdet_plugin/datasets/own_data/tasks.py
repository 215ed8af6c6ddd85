"""Choose between boxes, masks, and classes of images."""

from __future__ import annotations

from vitdet_plugin.datasets.formats.base import SourceSet
from vitdet_plugin.datasets.own_data.offers import MODELS
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.text import counted

_ENOUGH_MASKS = 0.9  # share of the objects


def choose_task(source: SourceSet, given: str | None = None, model: str | None = None) -> tuple[str, str]:
    """Return the task and the reason.

    Args:
        source: The data set as read.
        given: The task that the user asks for.
        model: The model that the user asks for; one without masks makes the task ``detect``, unless ``given`` is set.

    Raises:
        UserError: The data set does not have what the given task needs.
    """
    if source.is_classification:
        if given in ('detect', 'segment'):
            raise UserError(f'--task {given}: the data set has one class for each image and no objects; use --task '
                            'classify')
        names = {image.label for image in source.images}
        if len(names) == 1:
            raise UserError(f'all {len(source.images)} images have the class {names.pop()}; a classifier needs images '
                            'of two or more classes')
        return 'classify', 'one class for each image'
    objects = [each for image in source.images for each in image.objects]
    masks = sum(each.mask is not None for each in objects)
    share = masks / max(len(objects), 1)
    if given == 'classify':
        raise UserError('--task classify: the data set has objects, not one class for each image; give a folder with '
                        'one folder for each class')
    if given == 'segment' and not masks:
        raise UserError(f'--task segment: none of the {len(objects)} objects has a mask; use --task detect')
    stated = f'masks on {masks} of {len(objects)} objects'
    if given is None and share >= _ENOUGH_MASKS and model in MODELS and MODELS[model].task == 'detect':
        return 'detect', f'--model {model} has boxes only; {stated} are not used'
    if given == 'segment' or given is None and share >= _ENOUGH_MASKS:
        rest = f'; the box is the mask of the other {len(objects) - masks}' if masks < len(objects) else ''
        return 'segment', stated + rest
    if given == 'detect' and masks:
        return 'detect', f'--task; {stated} are not used'
    return 'detect', (f'{stated}, too few to learn masks' if masks
                      else f'{counted(len(objects), "object")} with boxes, no masks')
