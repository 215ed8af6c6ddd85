"""A folder of classes of coloured pictures, names with blanks and several suffixes, written in milliseconds."""

from pathlib import Path

import cv2
import numpy as np

CLASSES = ('Black-grass', 'Fat Hen', 'Maize')
COLOURS = {'Black-grass': (40, 40, 220), 'Fat Hen': (40, 200, 40), 'Maize': (220, 60, 40)}  # BGR
SUFFIXES = ('.png', '.JPG', '.webp', '.bmp')


def write_class_folders(root: Path, per_class: int = 6, size: int = 32, seed: int = 0,
                        suffixes: tuple[str, ...] = SUFFIXES) -> Path:
    """Write ``root/<class>/<number><suffix>``: a disc of the class's colour on noise, no two pictures alike."""
    random = np.random.default_rng(seed)
    for name in CLASSES:
        (root / name).mkdir(parents=True)
        for number in range(per_class):
            picture = random.integers(90, 130, (size, size + 8, 3), dtype=np.uint8)
            centre = [int(value) for value in random.integers(size // 4, 3 * size // 4, 2)]
            cv2.circle(picture, centre, size // 4, COLOURS[name], -1)
            cv2.imwrite(str(root / name / f'{number:02}{suffixes[number % len(suffixes)]}'), picture)
    return root
