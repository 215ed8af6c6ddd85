"""Compare the size of a loaded image with the annotated one.

mmdet never compares them. If an annotation file states the size before the EXIF orientation, which mmcv applies, every
box and mask is at the wrong location, without any message.
"""

import functools
from typing import Any

from vitdet_plugin.compat.patching import Patch
from vitdet_plugin.errors import UserError

_TRANSFORM = Patch('mmcv.transforms.LoadImageFromFile', 'transform', upstream='mmcv >= 2.0',
                   why='an image of another size than annotated is an error')


def install() -> None:
    """Wrap mmcv's transform that loads images, once; subclasses use it too."""
    _TRANSFORM.install(_with_comparison)


def _with_comparison(transform):
    @functools.wraps(transform)
    def compared(self, results: dict) -> dict | None:
        annotated = results.get('width'), results.get('height')
        loaded = transform(self, results)
        if loaded is not None:
            _compare(str(loaded.get('img_path')), annotated, loaded['ori_shape'])
        return loaded

    return compared


def _compare(path: str, annotated: tuple[Any, Any], shape: tuple[int, int]) -> None:
    height, width = shape
    if not all(isinstance(side, (int, float)) for side in annotated) or annotated == (width, height):
        return
    advice = ('; the file has an EXIF orientation: remove it if the annotations fit the stored pixels, or annotate the '
              'rotated image') if annotated == (height, width) else ''
    raise UserError(f'{path}: the image is read as {width} x {height}, annotated {annotated[0]} x {annotated[1]}'
                    f"{advice}; 'vitdet check' lists every image of another size")
