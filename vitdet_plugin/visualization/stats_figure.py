"""Figure of the statistics of a dataset."""

from pathlib import Path

import numpy as np

from vitdet_plugin.datasets.set_stats import COCO_AREAS, SetStats
from vitdet_plugin.utils.text import counted
from vitdet_plugin.visualization.figures import new_figure, plain, save, style_axes

_MAX_CLASSES = 60  # with more classes, the most and least frequent ones are shown


def draw_stats(stats: SetStats, out_png: str | Path) -> Path:
    """Draw the counts of each class, the image sizes and, for detection datasets, box statistics to a PNG file.

    Args:
        stats: Statistics of the dataset.
        out_png: Output file; its folder is created.

    Returns:
        ``out_png`` as a path.
    """
    is_detection = stats.splits[0].class_objects is not None
    bars = min(len(stats.classes), _MAX_CLASSES)
    figure = new_figure(12, max(6.0, 1.6 + 0.24 * bars))
    grid = figure.add_gridspec(3 if is_detection else 1, 2, width_ratios=(1.2, 1))
    _draw_classes(figure.add_subplot(grid[:, 0]), stats, is_detection)
    _draw_sizes(figure.add_subplot(grid[0, 1]), stats)
    if is_detection:
        _draw_box_sizes(figure.add_subplot(grid[1, 1]), stats)
        _draw_objects_per_image(figure.add_subplot(grid[2, 1]), stats)
    broken = sum(len(split.broken) for split in stats.splits)
    figure.suptitle(f'{counted(sum(split.images for split in stats.splits), "image")} · {broken} broken · '
                    f'{len(stats.duplicates)} groups of duplicates')
    return save(figure, Path(out_png))


def _draw_classes(axes, stats: SetStats, is_detection: bool) -> None:
    counts = np.array([split.class_objects or split.class_images for split in stats.splits])
    order, note = np.arange(len(stats.classes)), ''
    if len(order) > _MAX_CLASSES:
        by_count = np.argsort(-counts.sum(0), kind='stable')
        order = np.concatenate([by_count[:_MAX_CLASSES // 2], by_count[-_MAX_CLASSES // 2:]])
        note = f': the {_MAX_CLASSES // 2} most and least frequent of {len(stats.classes)} classes'
    left = np.zeros(len(order))
    for split, row in zip(stats.splits, counts):
        axes.barh(range(len(order)), row[order], left=left, label=plain(split.name), height=0.75)
        left += row[order]
    for position, total in enumerate(left):
        axes.text(total, position, f' {int(total)}', va='center', fontsize=7)
    axes.set_yticks(range(len(order)), [plain(stats.classes[label]) for label in order], fontsize=8)
    axes.set(title=('objects' if is_detection else 'images') + ' per class' + note, ylim=(len(order) - 0.4, -0.6))
    axes.figure.legend(*axes.get_legend_handles_labels(), loc='outside lower center', ncols=4, frameon=False)
    _style_axes(axes)


def _draw_sizes(axes, stats: SetStats) -> None:
    """Draw one dot per image size; its area grows with the number of images."""
    for split in stats.splits:
        if len(split.sizes):
            sizes, counts = np.unique(split.sizes, axis=0, return_counts=True)
            axes.scatter(*sizes.T, s=12 + 200 * counts / counts.max(), alpha=0.45, label=plain(split.name),
                         linewidths=0)
    top = max((split.sizes.max() for split in stats.splits if len(split.sizes)), default=1) * 1.08
    axes.plot([0, top], [0, top], color='gray', linewidth=0.7, linestyle=':')
    axes.set(title='image sizes', xlabel='width (px)', ylabel='height (px)', xlim=(0, top), ylim=(0, top))
    _style_axes(axes)


def _draw_box_sizes(axes, stats: SetStats) -> None:
    sides = [np.sqrt(split.box_sizes.prod(1)) for split in stats.splits]
    top = max((side.max() for side in sides if len(side)), default=1.0)
    bins = np.geomspace(1, max(top, 2), 40)
    axes.hist([np.maximum(side, 1) for side in sides], bins=bins, stacked=True)
    for name, low, _ in COCO_AREAS[1:]:
        axes.axvline(low**0.5, color='gray', linewidth=0.8, linestyle=':')
        axes.text(low**0.5, 0.97, f' {name}', transform=axes.get_xaxis_transform(), fontsize=7, va='top')
    axes.set(title='boxes', xlabel='square root of the area (px)', ylabel='boxes', xscale='log')
    _style_axes(axes)


def _draw_objects_per_image(axes, stats: SetStats) -> None:
    top = max(max(split.objects_in_image, default=0) for split in stats.splits)
    bins = np.arange(-0.5, min(top, 60) + 1.5)
    axes.hist([split.objects_in_image for split in stats.splits], bins=bins, stacked=True)
    axes.set(title='objects per image', xlabel='objects', ylabel='images')
    _style_axes(axes)


def _style_axes(axes) -> None:
    style_axes(axes)
    axes.tick_params(labelsize=8)
