"""A folder of three classes that differ in colour, written in milliseconds; names with blanks and hyphens."""

from pathlib import Path

import cv2
import numpy as np

CONFIG = Path(__file__).with_name('tiny_classifier.py')
COLOURS = {'Fat Hen': (40, 40, 220), 'lime': (40, 200, 40), 'plum-tree': (220, 60, 40)}  # BGR
CLASSES = tuple(COLOURS)


def write_tiny_classes(folder: Path, train: int = 7, val: int = 3, seed: int = 0) -> Path:
    """Write ``folder/{train,val}/<class>/<number>.png`` and ``folder/new pictures/*.png`` without labels.

    Training pictures are 3 x 7 = 21, so batches of 4 leave one over.
    """
    random = np.random.default_rng(seed)
    for split, number in (('train', train), ('val', val)):
        for name, colour in COLOURS.items():
            (folder / split / name).mkdir(parents=True)
            for index in range(number):
                cv2.imwrite(str(folder / split / name / f'{index}.png'), _picture(random, colour))
    (folder / 'new pictures').mkdir()
    for index, colour in enumerate([*COLOURS.values()][::-1]):
        cv2.imwrite(str(folder / 'new pictures' / f'{10 - index} b.png'), _picture(random, colour))
    return folder


def _picture(random: np.random.Generator, colour: tuple) -> np.ndarray:
    height, width = (int(side) for side in random.integers(36, 60, 2))
    noise = random.integers(-30, 30, (height, width, 3))
    return np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
