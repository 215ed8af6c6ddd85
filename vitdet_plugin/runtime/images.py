"""Decoding of image files as mmcv does it, with OpenCV or with Pillow."""

from __future__ import annotations

import io
import os
from typing import Any

import numpy as np

from .errors import ModelError
from .libraries import opencv, pillow

COLOR_TYPES = ('color', 'grayscale', 'unchanged', 'color_ignore_orientation', 'grayscale_ignore_orientation')
_ORIENTATION = 0x0112  # tag of EXIF
TAIL = 4096  # bytes at the end of a JPEG file in which its end marker is expected
_UNDER_GRAY_ALPHA = (124, 117, 104)  # what mmcv shows through transparent pixels of gray images read with Pillow


def read_image(path: str | os.PathLike, color_type: str = 'color', backend: str = 'cv2') -> np.ndarray:
    """Read an image file.

    Args:
        path: The file.
        color_type: One of :data:`COLOR_TYPES`, as in mmcv; the first two apply the orientation of EXIF.
        backend: How mmcv decodes it, ``'cv2'`` or ``'pillow'``. The other library is used where one is missing.

    Returns:
        (H, W, 3) uint8 in BGR order, (H, W) in gray, or what the file holds if ``unchanged``.

    Raises:
        ModelError: The file cannot be read, is not an image, or ends early.
    """
    try:
        with open(path, 'rb') as file:
            content = file.read()
    except OSError as error:
        raise ModelError(f'{os.fspath(path)} cannot be read ({error.strerror}); check the file') from error
    try:
        return decode_image(content, color_type, backend)
    except ModelError as error:
        raise ModelError(f'{os.fspath(path)} cannot be read as an image ({error}); replace it or give another file'
                         ) from error


def decode_image(content: bytes, color_type: str = 'color', backend: str = 'cv2') -> np.ndarray:
    """Decode the content of an image file; see :func:`read_image`."""
    if not content:
        raise ModelError('it is empty')
    if is_cut_jpeg(content):
        raise ModelError('the file ends early')
    if backend == 'pillow' and pillow() is not None:
        return _as_mmcv_with_pillow(_open(content), color_type)
    if opencv() is not None:
        return _decode_with_opencv(content, color_type)
    return _decode_with_pillow(content, color_type)


def array_of_pil(image: Any, color_type: str = 'color') -> np.ndarray:
    """Convert a PIL image as :func:`read_image` converts a file; ``unchanged`` has no meaning here and is ``color``.

    Raises:
        ModelError: It cannot be decoded, or its range of values is unknown.
    """
    from PIL import ImageOps
    try:
        if not color_type.endswith('ignore_orientation'):
            image = ImageOps.exif_transpose(image)
        return to_gray(_colors(image)) if color_type.startswith('grayscale') else _colors(image)
    except OSError as error:
        raise ModelError(str(error)) from error


def to_gray(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 in BGR order -> (H, W)."""
    cv2: Any = opencv()
    if cv2 is not None:
        return cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    library: Any = pillow()
    return np.asarray(library.fromarray(np.ascontiguousarray(image[..., ::-1])).convert('L'))


def _decode_with_opencv(content: bytes, color_type: str) -> np.ndarray:
    cv2: Any = opencv()
    flag = dict(color=cv2.IMREAD_COLOR, grayscale=cv2.IMREAD_GRAYSCALE).get(color_type.split('_')[0],
                                                                            cv2.IMREAD_UNCHANGED)
    if color_type.endswith('ignore_orientation'):
        flag |= cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), flag)
    except cv2.error as error:
        raise ModelError('it has more pixels than OpenCV decodes; reduce it, or set the environment variable '
                         'OPENCV_IO_MAX_IMAGE_PIXELS') from error
    if image is None:
        raise ModelError('OpenCV cannot decode it')
    return image


def _decode_with_pillow(content: bytes, color_type: str) -> np.ndarray:
    """Decode as OpenCV does."""
    image = _open(content)
    if color_type in ('color', 'grayscale') or image.format == 'TIFF':
        image = _turned(image, _orientation(image))
    if color_type.startswith('color'):
        return _colors(image)
    if color_type.startswith('grayscale'):
        return _eight_bits(np.asarray(image)) if _is_gray(image) else \
            np.asarray(_opaque(image).convert('RGB').convert('L'))
    if image.mode in ('P', 'CMYK', 'YCbCr', 'LAB', 'HSV'):
        image = image.convert('RGBA' if 'transparency' in image.info else 'RGB')
    array = np.asarray(image)
    if array.dtype == bool:
        return array.astype(np.uint8) * 255
    if array.ndim == 3 and array.shape[2] == 2:  # OpenCV reads gray with alpha as color
        return np.ascontiguousarray(array[..., [0, 0, 0, 1]])
    return array if array.ndim == 2 else np.ascontiguousarray(array[..., [2, 1, 0, *range(3, array.shape[2])]])


def _as_mmcv_with_pillow(image: Any, color_type: str) -> np.ndarray:
    """Convert as mmcv does for ``imdecode_backend='pillow'``."""
    if color_type == 'unchanged':
        array = np.array(image)
        if array.ndim == 3 and array.shape[2] >= 3:
            array[..., :3] = array[..., 2::-1]
        return array
    if not color_type.endswith('ignore_orientation'):
        from PIL import ImageOps
        image = ImageOps.exif_transpose(image)
    if image.mode == 'LA':
        below: Any = pillow()
        layers = image.convert('RGBA')
        image = below.new('RGB', layers.size, _UNDER_GRAY_ALPHA)
        image.paste(layers, mask=layers.split()[3])
    image = image.convert('RGB')
    if color_type.startswith('grayscale'):
        return np.array(image.convert('L'))
    return np.ascontiguousarray(np.array(image)[..., ::-1])


def _open(content: bytes) -> Any:
    library: Any = pillow()
    try:
        image = library.open(io.BytesIO(content))
        image.load()
    except Exception as error:  # decoders raise almost anything on damaged data
        raise ModelError((str(error).splitlines() or [type(error).__name__])[0]) from error
    return image


def _orientation(image: Any) -> int:
    """Return the orientation that OpenCV finds: that of EXIF in JPEG and PNG files, that of the tag in TIFF files."""
    if image.format == 'TIFF':
        return image.tag_v2.get(_ORIENTATION, 1)
    if image.format not in ('JPEG', 'MPO', 'PNG') or not image.info.get('exif'):
        return 1
    library: Any = pillow()
    found = library.Exif()
    found.load(image.info['exif'])
    return found.get(_ORIENTATION, 1)


def _turned(image: Any, orientation: int) -> Any:
    library: Any = pillow()
    turns = library.Transpose
    kind = {2: turns.FLIP_LEFT_RIGHT, 3: turns.ROTATE_180, 4: turns.FLIP_TOP_BOTTOM, 5: turns.TRANSPOSE,
            6: turns.ROTATE_270, 7: turns.TRANSVERSE, 8: turns.ROTATE_90}.get(orientation)
    return image if kind is None else image.transpose(kind)


def _is_gray(image: Any) -> bool:
    return image.mode in ('1', 'L', 'LA', 'La') or image.mode.startswith('I')


def _colors(image: Any) -> np.ndarray:
    if image.mode == 'F':
        raise ModelError('its values are floating-point numbers of unknown range; convert it to mode RGB or L')
    if _is_gray(image):
        array = _eight_bits(np.asarray(image))
        return np.repeat(array[..., None], 3, 2)
    return np.ascontiguousarray(np.asarray(_opaque(image).convert('RGB'))[..., ::-1])


def _opaque(image: Any) -> Any:
    """Leave out the alpha channel, as OpenCV does."""
    return image.convert('RGBA') if image.mode == 'PA' else image


def _eight_bits(array: np.ndarray) -> np.ndarray:
    """(H, W) or (H, W, 2), gray with alpha, of any type -> (H, W) uint8."""
    array = array[..., 0] if array.ndim == 3 else array
    if array.dtype == bool:
        return array.astype(np.uint8) * 255
    return array if array.dtype == np.uint8 else (array.astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)


def may_be_cut(start: bytes, tail: bytes) -> bool:
    """Whether a file is a JPEG without an end marker at its end, from its first two and last :data:`TAIL` bytes."""
    return start == b'\xff\xd8' and not tail.rstrip(b'\0').endswith(b'\xff\xd9')


def is_cut_jpeg(content: bytes) -> bool:
    """Whether a JPEG file ends early; OpenCV fills the rest with gray and does not report it."""
    if not may_be_cut(content[:2], content[-TAIL:]):
        return False
    if pillow() is None:
        return b'\xff\xd9' not in content[content.rfind(b'\xff\xda'):]
    try:  # other data may follow the image, so it has to be decoded
        _open(content)
    except ModelError as error:
        return 'truncated' in str(error)
    return False
