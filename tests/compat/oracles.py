"""Reference implementations of the operators with loops in NumPy, to test the stand-ins."""

import numpy as np


def iou(a, b, offset=0):
    """IoU of two boxes x1 y1 x2 y2; 0 where both are empty."""
    w = max(min(a[2], b[2]) - max(a[0], b[0]) + offset, 0)
    h = max(min(a[3], b[3]) - max(a[1], b[1]) + offset, 0)
    union = ((a[2] - a[0] + offset) * (a[3] - a[1] + offset) + (b[2] - b[0] + offset) * (b[3] - b[1] + offset)) - w * h
    return w * h / union if union else 0.0


def nms(boxes, scores, threshold, offset=0):
    """Return the indices of kept boxes, by descending score."""
    kept = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        if all(iou(boxes[i], boxes[k], offset) <= threshold for k in kept):
            kept.append(i)
    return kept


def soft_nms(boxes, scores, threshold, sigma, min_score, method, offset=0):
    """Indices in the order of selection, and their lowered scores."""
    left = dict(enumerate(map(float, scores)))
    order, lowered = [], []
    while left:
        best = max(left, key=left.get)
        order.append(best)
        lowered.append(left.pop(best))
        for i in list(left):
            overlap = iou(boxes[best], boxes[i], offset)
            if method == 'gaussian':
                left[i] *= np.exp(-overlap ** 2 / sigma)
            elif overlap >= threshold:
                left[i] *= 0 if method == 'naive' else 1 - overlap
            if left[i] < min_score:
                del left[i]
    return order, lowered


def corners(y, x):
    """The four cells around a point with their bilinear weights."""
    top, left = int(np.floor(y)), int(np.floor(x))
    for row, wy in ((top, 1 - (y - top)), (top + 1, y - top)):
        for column, wx in ((left, 1 - (x - left)), (left + 1, x - left)):
            yield row, column, wy * wx


def zero_padded(feature, y, x):
    """Bilinear value per channel of ``feature`` (C, H, W), which is zero outside."""
    _, height, width = feature.shape
    value = np.zeros(len(feature))
    for row, column, weight in corners(y, x):
        if 0 <= row < height and 0 <= column < width:
            value += weight * feature[:, row, column]
    return value


def border_padded(feature, y, x):
    """As RoIAlign samples: up to one cell outside counts as on the border, beyond that as zero."""
    _, height, width = feature.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return np.zeros(len(feature))
    return zero_padded(feature, np.clip(y, 0, height - 1), np.clip(x, 0, width - 1))


def roi_align(feature, roi, size, scale, ratio, aligned, pool=np.mean):
    """One RoI x1 y1 x2 y2 on ``feature`` (C, H, W), giving (C, size, size)."""
    x1, y1, x2, y2 = np.asarray(roi, float) * scale - (0.5 if aligned else 0)
    width, height = (x2 - x1, y2 - y1) if aligned else (max(x2 - x1, 1), max(y2 - y1, 1))
    ny, nx = (ratio, ratio) if ratio else (int(np.ceil(height / size)), int(np.ceil(width / size)))
    out = np.zeros((len(feature), size, size))
    for py in range(size):
        for px in range(size):
            samples = [border_padded(feature, y1 + (py + (iy + 0.5) / ny) * height / size,
                                     x1 + (px + (ix + 0.5) / nx) * width / size)
                       for iy in range(ny) for ix in range(nx)]
            if samples:
                out[:, py, px] = pool(samples, axis=0)
    return out


def deform_conv(x, weight, offset, mask, bias, stride, padding, dilation, groups, deform_groups):
    """Deformable convolution of ``x`` (N, C, H, W); offsets are (y, x) pairs for each deform group and kernel cell."""
    images, channels, height, width = x.shape
    out_channels, group_channels, kh, kw = weight.shape
    oh = (height + 2 * padding - dilation * (kh - 1) - 1) // stride + 1
    ow = (width + 2 * padding - dilation * (kw - 1) - 1) // stride + 1
    out = np.zeros((images, out_channels, oh, ow))
    per_deform, per_group = channels // deform_groups, out_channels // groups
    for n, i, j, ky, kx, d in np.ndindex(images, oh, ow, kh, kw, deform_groups):
        cell = (d * kh + ky) * kw + kx
        y = i * stride - padding + ky * dilation + offset[n, 2 * cell, i, j]
        z = j * stride - padding + kx * dilation + offset[n, 2 * cell + 1, i, j]
        sample = zero_padded(x[n, d * per_deform:(d + 1) * per_deform], y, z)
        if mask is not None:
            sample = sample * mask[n, cell, i, j]
        for k, value in enumerate(sample, start=d * per_deform):
            group = k // group_channels
            rows = slice(group * per_group, (group + 1) * per_group)
            out[n, rows, i, j] += weight[rows, k - group * group_channels, ky, kx] * value
    return out if bias is None else out + bias[None, :, None, None]


def ms_deform_attn(value, shapes, locations, weights):
    """Multi-scale deformable attention; shapes as in the paper's implementation."""
    images, _, heads, channels = value.shape
    queries, levels, points = locations.shape[1], locations.shape[3], locations.shape[4]
    out = np.zeros((images, queries, heads, channels))
    starts = np.cumsum([0, *[h * w for h, w in shapes]])
    for n, q, m, level, p in np.ndindex(images, queries, heads, levels, points):
        height, width = shapes[level]
        feature = value[n, starts[level]:starts[level + 1], m].reshape(height, width, channels).transpose(2, 0, 1)
        px, py = locations[n, q, m, level, p]
        out[n, q, m] += weights[n, q, m, level, p] * zero_padded(feature, py * height - 0.5, px * width - 0.5)
    return out.reshape(images, queries, heads * channels)


def numeric_gradient(function, array, grad_output, step=1e-5):
    """Central differences of sum(function(array) * grad_output) by every entry of ``array`` (float64)."""
    gradient = np.zeros_like(array)
    for index in np.ndindex(*array.shape):
        high, low = array.copy(), array.copy()
        high[index] += step
        low[index] -= step
        gradient[index] = ((function(high) - function(low)) * grad_output).sum() / (2 * step)
    return gradient
