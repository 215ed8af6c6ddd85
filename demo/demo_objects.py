"""The five classes of objects in the demo set: outline, typical color and shading of each.

Every outline is given in a unit frame (the object fits into the disc of radius 1, x to the right, y down) and in
continuous coordinates, where a pixel with index i covers [i, i + 1). ``paint`` renders a small window around an object.
"""

import colorsys
from dataclasses import dataclass

import cv2
import numpy as np

# name -> typical hue in [0, 1), saturation, value
CLASS_COLORS = {
    'ball': (0.58, 0.75, 0.85),
    'ring': (0.83, 0.65, 0.85),
    'star': (0.14, 0.85, 0.95),
    'brick': (0.03, 0.65, 0.70),
    'leaf': (0.33, 0.70, 0.65),
}
CLASS_NAMES = tuple(CLASS_COLORS)
HUE_JITTER = 0.03
SUPERSAMPLING = 4


@dataclass
class DemoObject:
    """One object with its position.

    Attributes:
        name: One of ``CLASS_NAMES``.
        center: (x, y) in pixels of the image.
        radius: Half of the largest extent, in pixels.
        angle: Rotation in radians.
        rings: Outlines in image coordinates, each (n, 2); the first is the outer one, the others are holes.
        color: RGB in [0, 1], shape (3,).
        shape: Two parameters of the class (aspect, thickness …), used for outline and shading.
    """

    name: str
    center: tuple[float, float]
    radius: float
    angle: float
    rings: list[np.ndarray]
    color: np.ndarray
    shape: tuple[float, float]


def make_object(rng: np.random.Generator, name: str, center: tuple[float, float], radius: float) -> DemoObject:
    """Sample the parameters of an object of class ``name`` and return it at its position."""
    angle = float(rng.uniform(0, 2 * np.pi))
    first, second = (float(v) for v in rng.uniform(0, 1, 2))
    shape = {
        'ball': (1.0, 0.0),
        'ring': (0.7 + 0.3 * first, 0.48 + 0.14 * second),
        'star': (0.40 + 0.12 * first, 0.0),
        'brick': (0.45 + 0.2 * first, second),
        'leaf': (0.36 + 0.16 * first, second),
    }[name]
    cos, sin = np.cos(angle), np.sin(angle)
    rotation = np.array([[cos, sin], [-sin, cos]])
    rings = [unit @ rotation * radius + center for unit in _unit_rings(name, shape)]
    hue, saturation, value = CLASS_COLORS[name]
    hue = (hue + rng.normal(0, HUE_JITTER)) % 1
    saturation = np.clip(saturation * rng.uniform(0.75, 1.25), 0, 1)
    value = np.clip(value * rng.uniform(0.75, 1.15), 0, 1)
    return DemoObject(name, center, radius, angle, rings, np.array(colorsys.hsv_to_rgb(hue, saturation, value)), shape)


def _unit_rings(name: str, shape: tuple[float, float]) -> list[np.ndarray]:
    turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    circle = np.stack([np.cos(turn), np.sin(turn)], 1)
    if name == 'ball':
        return [circle]
    if name == 'ring':
        outer = circle * (1, shape[0])
        return [outer, outer * shape[1]]
    if name == 'star':
        spikes = np.linspace(0, 2 * np.pi, 10, endpoint=False)
        length = np.where(np.arange(10) % 2 == 0, 1.0, shape[0])
        return [np.stack([np.cos(spikes), np.sin(spikes)], 1) * length[:, None]]
    if name == 'brick':
        half = np.array([1, shape[0]]) / np.hypot(1, shape[0])
        return [np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half]
    # leaf: two arcs from the stem (-1, 0) to the tip (1, 0), wider towards the stem
    along = np.linspace(-1, 1, 16)
    width = _leaf_half_width(along, shape[0])
    upper, lower = np.stack([along, -width], 1), np.stack([along, width], 1)
    return [np.concatenate([upper, lower[-2:0:-1]])]


def _leaf_half_width(along: np.ndarray, width: float) -> np.ndarray:
    return width * np.cos(along * np.pi / 2) * (1 - 0.25 * along)


def coverage(rings: list[np.ndarray], window: tuple[int, int, int, int]) -> np.ndarray:
    """Return the fraction of each pixel that lies inside the outlines (even-odd rule).

    Args:
        rings: Outlines, each (n, 2), in image coordinates.
        window: (x0, y0, x1, y1) in whole pixels.

    Returns:
        float32 (y1 - y0, x1 - x0) in [0, 1].
    """
    x0, y0, x1, y1 = window
    # fixed point with 4 fractional bits; minus half a fine pixel, because OpenCV's indices are pixel centers
    fine = [np.round(((ring - (x0, y0)) * SUPERSAMPLING - 0.5) * 16).astype(np.int32) for ring in rings]
    canvas = np.zeros(((y1 - y0) * SUPERSAMPLING, (x1 - x0) * SUPERSAMPLING), np.uint8)
    cv2.fillPoly(canvas, fine, 255, shift=4)
    return cv2.resize(canvas, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def paint(rng: np.random.Generator, obj: DemoObject, window: tuple[int, int, int, int],
          light: np.ndarray) -> np.ndarray:
    """Return the colors of an object, lit from ``light`` (unit vector, (3,)), over a window of the image.

    Returns:
        float32 (y1 - y0, x1 - x0, 3), RGB in [0, 1]; meaningful only on the object.
    """
    x0, y0, x1, y1 = window
    dx = (np.arange(x0, x1, dtype=np.float32) + 0.5 - obj.center[0]) / obj.radius
    dy = (np.arange(y0, y1, dtype=np.float32)[:, None] + 0.5 - obj.center[1]) / obj.radius
    cos, sin = np.cos(obj.angle), np.sin(obj.angle)
    u, v = dx * cos + dy * sin, dy * cos - dx * sin
    local_light = np.array([light[0] * cos + light[1] * sin, light[1] * cos - light[0] * sin, light[2]])
    brightness, gloss = _SHADERS[obj.name](u, v, obj.shape, local_light)
    grain = rng.normal(0, 0.03, u.shape).astype(np.float32)
    colors = (brightness + grain)[..., None] * obj.color.astype(np.float32)
    return np.clip(colors + gloss[..., None], 0, 1) if gloss is not None else np.clip(colors, 0, 1)


def _shade_ball(u, v, shape, light):
    height = np.sqrt(np.clip(1 - u * u - v * v, 0, 1))
    facing = np.clip(u * light[0] + v * light[1] + height * light[2], 0, 1)
    return 0.3 + 0.8 * facing, 0.7 * facing**24


def _shade_ring(u, v, shape, light):
    v = v / shape[0]
    distance = np.sqrt(u * u + v * v) + 1e-6
    middle, half = (1 + shape[1]) / 2, (1 - shape[1]) / 2
    across = np.clip((distance - middle) / half, -1, 1)
    height = np.sqrt(1 - across * across)
    facing = np.clip((u * light[0] + v * light[1]) / distance * across + height * light[2], 0, 1)
    return 0.35 + 0.75 * facing, 0.4 * facing**16


def _shade_star(u, v, shape, light):
    # Ten facets that fold along the spikes, as on a cut metal star.
    sector = np.floor(np.arctan2(v, u) / (np.pi / 5)) % 10
    facet = np.where(sector % 2 == 0, 1.0, 0.78)
    return facet * (1 - 0.18 * (u * u + v * v)), None


def _shade_brick(u, v, shape, light):
    half_u, half_v = 1 / np.hypot(1, shape[0]), shape[0] / np.hypot(1, shape[0])
    row = (v / half_v + 1) * 1.5  # three courses
    column = (u / half_u + 1) * 1.25 + 0.5 * (np.floor(row) % 2) + 0.4 * shape[1]
    joint = np.minimum(np.minimum(row % 1, 1 - row % 1) * 1.3, np.minimum(column % 1, 1 - column % 1) * 1.8)
    tone = 0.85 + 0.2 * np.sin(12.9 * np.floor(row) + 78.2 * np.floor(column))
    return np.where(joint < 0.13, 1.35, tone), None


def _shade_leaf(u, v, shape, light):
    width = _leaf_half_width(u, shape[0]) + 0.05
    rib = np.abs(v) < 0.035
    vein = ((u + 0.9 * np.abs(v)) * 4 + shape[1]) % 1 < 0.16
    side = np.where(v < 0, 1.05, 0.85)
    tone = side * (1.1 - 0.35 * np.clip(np.abs(v) / width, 0, 1))
    return np.where(rib, 1.45, np.where(vein, tone * 1.2, tone)), None


_SHADERS = {
    'ball': _shade_ball,
    'ring': _shade_ring,
    'star': _shade_star,
    'brick': _shade_brick,
    'leaf': _shade_leaf,
}
