"""A folder of classes of small color images with blanks in the names and several suffixes."""

from pathlib import Path

import cv2
import numpy as np

CLASSES = ('Black-grass', 'Fat Hen', 'Maize')
COLORS = {'Black-grass': (40, 40, 220), 'Fat Hen': (40, 200, 40), 'Maize': (220, 60, 40)}  # BGR
SUFFIXES = ('.png', '.JPG', '.webp', '.bmp')


def write_class_folders(root: Path, per_class: int = 6, size: int = 32, seed: int = 0,
                        suffixes: tuple[str, ...] = SUFFIXES) -> Path:
    """Write ``root/<class>/<number><suffix>``: a disc in the color of the class on noise; all images differ."""
    random = np.random.default_rng(seed)
    for name in CLASSES:
        (root / name).mkdir(parents=True)
        for number in range(per_class):
            image = random.integers(90, 130, (size, size + 8, 3), dtype=np.uint8)
            center = [int(value) for value in random.integers(size // 4, 3 * size // 4, 2)]
            cv2.circle(image, center, size // 4, COLORS[name], -1)
            cv2.imwrite(str(root / name / f'{number:02}{suffixes[number % len(suffixes)]}'), image)
    return root
