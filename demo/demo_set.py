"""Write the demo set: small images of drawn objects on photographs, in COCO format with boxes and exact masks.

The objects (``demo_objects``) overlap, are cut by the border and have sizes from 12 % to 60 % of the shorter side.
The photographs are those in the wheels of scikit-image, scikit-learn, imaug and matplotlib; each is used in one split
only, so that the backgrounds of ``val`` are new to a model that was trained on ``train`` or ``pretrain``.
The same versions of the packages and the same arguments give the same bytes; image i does not depend on the number of
images.
"""

import importlib.util
import json
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as mask_utils

from vitdet_plugin.demo.demo_objects import CLASS_NAMES, DemoObject, coverage, make_object, paint
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.track import track

CATEGORY_IDS = {'ball': 3, 'ring': 7, 'star': 11, 'brick': 18, 'leaf': 24}  # with gaps, as in COCO
LICENSES = [
    {'id': 1, 'name': 'CC0 or public domain', 'url': 'https://creativecommons.org/publicdomain/zero/1.0/'},
    {'id': 2, 'name': 'CC BY 2.0', 'url': 'https://creativecommons.org/licenses/by/2.0/'},
    {'id': 3, 'name': 'MIT (as shipped with imaug)', 'url': 'https://opensource.org/license/mit'},
]
# split -> (package, file inside it, id of its license, credit)
PHOTOGRAPHS = {
    'train': [
        ('sklearn', 'datasets/images/china.jpg', 2, 'danielbuechele, flickr.com/photos/danielbuechele/6061409035'),
        ('skimage', 'data/coffee.png', 1, 'Rachel Michetti'),
        ('skimage', 'data/chelsea.png', 1, 'Stefan van der Walt'),
        ('skimage', 'data/rocket.jpg', 1, 'SpaceX'),
        ('skimage', 'data/grass.png', 1, 'CC0Textures'),
    ],
    'val': [
        ('sklearn', 'datasets/images/flower.jpg', 2, 'vultilion, flickr.com/photos/vultilion/6056698931'),
        ('imgaug', 'quokka.jpg', 3, 'imgaug'),
        ('skimage', 'data/astronaut.png', 1, 'NASA'),
        ('skimage', 'data/gravel.png', 1, 'CC0Textures'),
    ],
    'pretrain': [
        ('skimage', 'data/camera.png', 1, 'Lav Varshney'),
        ('skimage', 'data/brick.png', 1, 'CC0Textures'),
        ('skimage', 'data/hubble_deep_field.jpg', 1, 'NASA'),
        ('skimage', 'data/retina.jpg', 1, 'Mikael Haggstrom'),
        ('skimage', 'data/ihc.png', 1, 'CMMI'),
        ('matplotlib', 'mpl-data/sample_data/grace_hopper.jpg', 1, 'US Navy'),
    ],
}
SPLITS = tuple(PHOTOGRAPHS)
JPEG_QUALITY = 95
MIN_VISIBLE_SHARE, MIN_VISIBLE_PIXELS = 0.35, 40
_LONGEST_PHOTOGRAPH_SIDE = 512


def write_demo_set(root: str | Path, train: int = 2000, val: int = 100, pretrain: int = 0, size: int = 160,
                   seed: int = 0) -> dict[str, Path]:
    """Write images to ``root/<split>/`` and annotations to ``root/annotations/<split>.json``.

    Args:
        root: Folder to write to, created if necessary; files of the same names are replaced.
        train, val, pretrain: Number of images of each split; a split of 0 images is not written.
        size: Longest side in pixels; images are size x 3/4 size, 3/4 size x size or 4/5 size squared.
        seed: Another seed gives other images.

    Returns:
        The annotation file of each split written.

    Raises:
        UserError: A photograph is not found in its package, ``size`` or a number is out of range, or ``root`` cannot
            be written.
    """
    counts = {'train': train, 'val': val, 'pretrain': pretrain}
    if size < 64:
        raise UserError(f'demo set: size={size} is too small for objects of 12 % of the side; use 64 or more')
    if min(counts.values()) < 0 or max(counts.values()) == 0:
        raise UserError(f'demo set: {counts} images requested; request at least one, and no negative number')
    try:
        return {split: _write_split(Path(root), split, count, size, seed) for split, count in counts.items() if count}
    except OSError as error:
        raise UserError(f'demo set: cannot write to {root}: {error.strerror or error}') from error


def _write_split(root: Path, split: str, count: int, size: int, seed: int) -> Path:
    photographs = [load_photograph(package, file) for package, file, *_ in PHOTOGRAPHS[split]]
    images, annotations = [], []
    (root / split).mkdir(parents=True, exist_ok=True)
    for index in track(range(count), count, f'{split} images'):
        rng = np.random.default_rng([seed, SPLITS.index(split), index])
        choice = int(rng.integers(len(photographs)))
        image, objects, owner = compose(rng, photographs[choice], size)
        height, width = owner.shape
        name = f'{index:06d}.jpg'
        saved = cv2.imwrite(str(root / split / name), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        if not saved:
            raise UserError(f'demo set: cannot write {root / split / name}; check the disk and the permissions')
        _, file, license_id, credit = PHOTOGRAPHS[split][choice]
        images.append({'id': index + 1, 'file_name': name, 'width': width, 'height': height, 'license': license_id,
                       'background': f'{Path(file).name} ({credit})'})
        for number, obj in enumerate(objects):
            annotations.append(_annotation(len(annotations) + 1, index + 1, obj, owner == number))
    content = {
        'info': {'description': f'Demo set of vitdet_plugin: split {split}, drawn objects on photographs',
                 'generator': 'vitdet_plugin.demo.demo_set', 'version': '1', 'seed': seed, 'size': size},
        'licenses': LICENSES,
        'categories': [{'id': CATEGORY_IDS[name], 'name': name, 'supercategory': 'object'} for name in CLASS_NAMES],
        'images': images,
        'annotations': annotations,
    }
    path = root / 'annotations' / f'{split}.json'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def load_photograph(package: str, file: str) -> np.ndarray:
    """Return a photograph as RGB uint8 (H, W, 3), at most 512 pixels long. The package is located, not imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f'demo set: its background {file} comes with the package {package}, which is not installed; '
                        'run pip install "vitdet-plugin[demo]"')
    path = Path(spec.submodule_search_locations[0]) / file
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise UserError(f'demo set: the background {path} is missing or unreadable; reinstall the package {package}')
    scale = min(1.0, _LONGEST_PHOTOGRAPH_SIDE / max(image.shape[:2]))
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(image[..., ::-1])


def compose(rng: np.random.Generator, photograph: np.ndarray, size: int) -> tuple[np.ndarray, list, np.ndarray]:
    """Generate one image.

    Returns:
        image uint8 (H, W, 3) RGB; the objects, farthest first; ``owner`` int (H, W): index of the object that each
        pixel shows, -1 for the photograph.
    """
    width, height = [(size, size * 3 // 4), (size * 3 // 4, size), (size * 4 // 5, size * 4 // 5)][rng.integers(3)]
    image = _background(rng, photograph, width, height)
    objects, covers, owner = _place_objects(rng, width, height)
    tilt, turn = rng.uniform(0.5, 0.9), rng.uniform(0, 2 * np.pi)
    light = np.array([np.cos(turn) * tilt, np.sin(turn) * tilt, np.sqrt(1 - tilt * tilt)])
    for obj, (window, cover) in zip(objects, covers):
        x0, y0, x1, y1 = window
        _cast_shadow(image, cover, window, obj.radius, light)
        patch = image[y0:y1, x0:x1]
        patch += cover[..., None] * (paint(rng, obj, window, light) - patch)
    image += rng.normal(0, rng.uniform(0.005, 0.02), image.shape).astype(np.float32)
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8), objects, owner


def _background(rng: np.random.Generator, photograph: np.ndarray, width: int, height: int) -> np.ndarray:
    """Return a random part of the photograph, float32 (height, width, 3) in [0, 1], with color jitter.

    The hues are rotated with probability 0.5, so that a detector does not learn the colors of the few photographs.
    """
    full_height, full_width = photograph.shape[:2]
    zoom = min(full_width / width, full_height / height) * rng.uniform(0.4, 1.0)
    part_width, part_height = max(1, int(width * zoom)), max(1, int(height * zoom))
    x0 = int(rng.integers(full_width - part_width + 1))
    y0 = int(rng.integers(full_height - part_height + 1))
    part = photograph[y0:y0 + part_height, x0:x0 + part_width]
    if rng.random() < 0.5:
        part = part[:, ::-1]
    part = cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    if rng.random() < 0.5:
        part = _rotate_hues(part, rng.uniform(0, 360), rng.uniform(0.6, 1.8))
    tint = rng.uniform(0.85, 1.1, 3) * rng.uniform(0.75, 1.1)
    return part * tint.astype(np.float32)


def _rotate_hues(image: np.ndarray, degrees: float, saturation: float) -> np.ndarray:
    hue, strength, value = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2HSV))
    rotated = cv2.merge([(hue + np.float32(degrees)) % 360, np.minimum(strength * np.float32(saturation), 1), value])
    return cv2.cvtColor(rotated, cv2.COLOR_HSV2RGB)


def _place_objects(rng: np.random.Generator, width: int, height: int) -> tuple[list, list, np.ndarray]:
    """Place 1 to 6 objects so that enough of each stays visible for an annotation."""
    side = min(width, height)
    objects, covers, areas = [], [], []
    owner = np.full((height, width), -1, np.int8)
    count = int(rng.integers(1, 7))
    for _ in range(6 * count):
        if len(objects) == count:
            break
        radius = side * float(np.exp(rng.uniform(np.log(0.12), np.log(0.6)))) / 2
        name = CLASS_NAMES[rng.integers(len(CLASS_NAMES))]
        obj = make_object(rng, name, _center(rng, objects, width, height), radius)
        low = np.clip(np.floor(obj.rings[0].min(0) - 1).astype(int), 0, (width, height))
        high = np.clip(np.ceil(obj.rings[0].max(0) + 1).astype(int), 0, (width, height))
        if (high - low).min() < 3:
            continue
        window = (*low.tolist(), *high.tolist())
        cover = coverage(obj.rings, window)
        trial = owner.copy()
        trial[low[1]:high[1], low[0]:high[0]][cover >= 0.5] = len(objects)
        visible = np.bincount(trial[trial >= 0], minlength=len(objects) + 1)
        enough = np.maximum(MIN_VISIBLE_SHARE * np.array([*areas, _area(obj)]), MIN_VISIBLE_PIXELS)
        if (visible >= enough).all():
            owner = trial
            objects.append(obj)
            covers.append((window, cover))
            areas.append(_area(obj))
    return objects, covers, owner


def _center(rng: np.random.Generator, objects: list[DemoObject], width: int, height: int) -> tuple[float, float]:
    """Return a random position, with probability 0.4 on the border of an existing object, so that they overlap."""
    if objects and rng.random() < 0.4:
        near = objects[rng.integers(len(objects))]
        turn = rng.uniform(0, 2 * np.pi)
        x, y = near.center[0] + near.radius * np.cos(turn), near.center[1] + near.radius * np.sin(turn)
        return float(np.clip(x, 0, width)), float(np.clip(y, 0, height))
    return float(rng.uniform(0.03, 0.97) * width), float(rng.uniform(0.03, 0.97) * height)


def _shapely():
    try:
        import shapely
    except ImportError:
        raise UserError('demo set: the package shapely is not installed; '
                        'run pip install "vitdet-plugin[demo]"') from None
    return shapely


def _area(obj: DemoObject) -> float:
    return _shapely().Polygon(obj.rings[0], obj.rings[1:]).area


def _cast_shadow(image: np.ndarray, cover: np.ndarray, window: tuple, radius: float, light: np.ndarray) -> None:
    """Darken the image softly on the side away from the light, in place."""
    reach = max(2, int(radius * 0.15))
    x0, y0 = window[:2]
    # the light comes from (light_x, light_y), so the shadow falls in the opposite direction
    shift = np.round(-light[:2] * reach).astype(int)
    shadow = cv2.GaussianBlur(cv2.copyMakeBorder(cover, *[2 * reach] * 4, cv2.BORDER_CONSTANT), (0, 0), reach * 0.6)
    left, top = x0 - 2 * reach + shift[0], y0 - 2 * reach + shift[1]
    right, bottom = left + shadow.shape[1], top + shadow.shape[0]
    height, width = image.shape[:2]
    inner = shadow[max(0, -top):shadow.shape[0] - max(0, bottom - height),
                   max(0, -left):shadow.shape[1] - max(0, right - width)]
    image[max(0, top):bottom, max(0, left):right] *= 1 - 0.45 * inner[..., None]


def _annotation(identity: int, image_id: int, obj: DemoObject, mask: np.ndarray) -> dict:
    """Return a COCO annotation: a polygon for a whole object without holes, otherwise RLE (both kinds in turn)."""
    height, width = mask.shape
    rle = mask_utils.encode(np.asfortranarray(mask.astype(np.uint8)))
    shapely = _shapely()
    outline = shapely.clip_by_rect(shapely.Polygon(obj.rings[0]), 0, 0, width, height)
    hidden = outline.area - mask.sum() > 0.03 * outline.area + 4
    if len(obj.rings) == 1 and not hidden and outline.geom_type == 'Polygon':
        points = shapely.get_coordinates(outline)[:-1].round(2)
        segmentation = [points.ravel().tolist()]
        low, high = points.min(0), points.max(0)
        box = [*low, *(high - low)]
    else:
        box = mask_utils.toBbox(rle)
        counts = rle['counts'].decode() if identity % 2 else _uncompressed(mask)
        segmentation = {'size': [height, width], 'counts': counts}
    return {'id': identity, 'image_id': image_id, 'category_id': CATEGORY_IDS[obj.name], 'iscrowd': 0,
            'area': int(mask.sum()), 'bbox': [round(float(v), 2) for v in box], 'segmentation': segmentation}


def _uncompressed(mask: np.ndarray) -> list[int]:
    """Return COCO's uncompressed run lengths: column by column, starting with zeros."""
    flat = mask.ravel(order='F').astype(np.int8)
    changes = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *changes, flat.size]).tolist()
    return [0, *runs] if flat[0] else runs
