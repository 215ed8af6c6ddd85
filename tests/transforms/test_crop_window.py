import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from vitdet_plugin.transforms.crop_window import CropWindow, jitter_window, resize_and_crop

windows = st.builds(jitter_window, st.tuples(st.integers(8, 300), st.integers(8, 300)), st.integers(32, 256),
                    st.floats(0.1, 2.0), st.floats(0, 1), st.booleans())


def _reference(image, window, backend):
    """Reference implementation: mirror and resize the whole image, then crop."""
    image = np.ascontiguousarray(image[:, ::-1]) if window.flip else image
    size = window.scaled[::-1]
    if backend == 'cv2':
        whole = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    else:
        whole = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    return whole[window.offset[0]:, window.offset[1]:][:window.size[0], :window.size[1]]


@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
@settings(max_examples=100)
@given(window=windows, seed=st.integers(0, 1000))
@example(window=jitter_window((120, 160), 128, 2.0, 0.4, True), seed=0)  # only a part of the image is resized
@example(window=jitter_window((160, 120), 128, 1.5, 0.8, False), seed=0)
def test_pixels_equal_those_of_resizing_the_whole_image(backend, window, seed):
    image = np.random.default_rng(seed).integers(0, 256, (*window.source, 3), dtype=np.uint8)  # noise: the worst case
    difference = np.abs(resize_and_crop(image, window, backend).astype(int) - _reference(image, window, backend))
    # Pillow rounds once per axis, so two differences of one level may rarely add up.
    assert difference.max() <= (1 if backend == 'cv2' else 2)
    assert (difference > 1).mean() <= 1e-2


@settings(max_examples=100)
@given(windows)
def test_nearest_rows_and_columns_contain_the_centers_of_the_target_pixels(window):
    rows, columns = window.nearest_rows_and_columns()
    inverse = np.linalg.inv(window.matrix())
    height, width = window.size
    centers_y = (np.arange(height) + 0.5) * inverse[1, 1] + inverse[1, 2]
    centers_x = (np.arange(width) + 0.5) * inverse[0, 0] + inverse[0, 2]
    for found, centers, source in ((rows, centers_y, window.source[0]), (columns, centers_x, window.source[1])):
        assert (np.abs(found + 0.5 - centers) <= 0.5 + 1e-6).all()
        assert 0 <= found.min() <= found.max() < source


@settings(max_examples=100)
@given(windows, st.floats(0, 1), st.floats(0, 1))
def test_matrix_equals_flip_scale_and_crop(window, u, v):
    height, width = window.source
    x, y = u * width, v * height
    flipped = width - x if window.flip else x
    expected = [flipped * window.scaled[1] / width - window.offset[1],
                y * window.scaled[0] / height - window.offset[0], 1]
    np.testing.assert_allclose(window.matrix() @ [x, y, 1], expected, atol=1e-9)


@pytest.mark.parametrize(('source', 'scale', 'position', 'scaled', 'offset', 'size'), [
    ((480, 640), 1.0, 0.7, (768, 1024), (0, 0), (768, 1024)),
    ((480, 640), 2.0, 1.0, (1536, 2048), (512, 1024), (1024, 1024)),
    ((480, 640), 2.0, 0.25, (1536, 2048), (128, 256), (1024, 1024)),
    ((640, 480), 1.5, 0.5, (1536, 1152), (256, 64), (1024, 1024)),
    ((427, 640), 0.1, 0.5, (68, 102), (0, 0), (68, 102)),
    ((1, 900), 0.1, 0.5, (1, 102), (0, 0), (1, 102)),
])
def test_window_equals_the_reference(source, scale, position, scaled, offset, size):
    assert jitter_window(source, 1024, scale, position, False) == CropWindow(source, scaled, offset, size, False)


def test_only_a_part_of_an_upscaled_image_is_computed(monkeypatch):
    sizes = []
    resize = cv2.resize
    monkeypatch.setattr(cv2, 'resize', lambda image, size, **kw: sizes.append(size) or resize(image, size, **kw))
    resize_and_crop(np.zeros((480, 640, 3), np.uint8), jitter_window((480, 640), 1024, 2.0, 0.5, False))
    assert sizes[0][0] * sizes[0][1] < 1.2 * 1024**2  # the whole image would have 3 times as many pixels
