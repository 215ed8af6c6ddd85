"""The images of a detection data set before a run: a sample is decoded, the sizes of many are read from the headers."""

import os
from collections import defaultdict
from collections.abc import Sequence

from vitdet_plugin.config.dataset_config import IMAGE_SAMPLE
from vitdet_plugin.datasets.checks.images import DEEP, ImageFault, check_images, check_sizes
from vitdet_plugin.datasets.image_reader import ImageReader

SIZE_SAMPLE = 2000  # images whose size is compared with the annotated one; the rest is compared when it is loaded
_SHOWN = 3

Size = tuple[float, float] | None


def check_image_sample(folder: str, names: Sequence[str], sizes: Sequence[Size], reader: ImageReader,
                       ann_file: str) -> list[tuple[str, str]]:
    """Check that images exist, can be decoded and have the annotated sizes.

    Args:
        folder: Folder of the images.
        names: Paths of all images below it.
        sizes: Annotated (width, height) in pixels of each.
        reader: How the pipeline reads the files.
        ann_file: Annotation file, for the messages.

    Returns:
        (level, text) pairs, one for each kind of fault.
    """
    chosen = range(0, len(names), max(1, len(names) // IMAGE_SAMPLE))[:IMAGE_SAMPLE]
    missing = [names[index] for index in chosen if not os.path.isfile(os.path.join(folder, names[index]))]
    if missing:
        shown = ', '.join(missing[:_SHOWN]) + (', …' if len(missing) > _SHOWN else '')
        backslash = '' if os.sep == '\\' or '\\' not in missing[0] else '; write / instead of \\ in file_name'
        return [('error', f'{len(missing)} of the {len(chosen)} images checked are not in {os.path.abspath(folder)}: '
                          f'{shown}; does data_prefix.img match the file_name entries of {ann_file}?{backslash}')]
    paths = [os.path.join(folder, name) for name in names]
    faults = check_images([paths[index] for index in chosen], [sizes[index] for index in chosen], reader=reader)
    rest = [index for index in range(0, len(names), max(1, len(names) // SIZE_SAMPLE)) if index not in chosen]
    faults += check_sizes([paths[index] for index in rest], [sizes[index] for index in rest], reader)
    groups: dict[tuple[str, str], list[ImageFault]] = defaultdict(list)
    for fault in faults:
        if fault.level == 'error' or fault.kind == DEEP:
            groups[fault.level, fault.kind].append(fault)
    return [(level, _describe(group, len(chosen) + len(rest))) for (level, _), group in groups.items()]


def find_deep_images(paths: Sequence[str], reader: ImageReader) -> list[tuple[str, str]]:
    """Return a warning (level, text) if some of a sample of images have more than 8 bits per channel."""
    chosen = [path for path in paths[::max(1, len(paths) // IMAGE_SAMPLE)][:IMAGE_SAMPLE] if os.path.isfile(path)]
    faults = [fault for fault in check_images(chosen, [None] * len(chosen), reader=reader) if fault.kind == DEEP]
    return [('warning', _describe(faults, len(chosen)))] if faults else []


def _describe(faults: Sequence[ImageFault], checked: int) -> str:
    count = f'{len(faults)} of the {checked} images checked, for example ' if len(faults) > 1 else ''
    return f"{count}{faults[0]}; 'vitdet check' checks all images"
