"""Line charts as inline SVG, colored by the style sheet of the page for light and dark backgrounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

import numpy as np

from vitdet_plugin.visualization.html_report.elements import note, tag

COLORS = 8  # of the style sheet: c0 to c7; further lines are dashed
_WIDTH, _HEIGHT = 480, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 10, 10, 44
_MOST_POINTS = 240  # of a line, about two pixels apart
_MOST_MARKERS = 60


@dataclass
class Line:
    """A line of a chart.

    Attributes:
        name: Name in the legend; an empty one is not shown there.
        points: Values (x, y) of shape ``(N, 2)``, ordered by x; NaN values are left out.
        color: Index of the color; None is the color of the text.
        is_dashed: Whether the line is dashed.
        has_markers: Whether points are marked, with their values as tooltips; a single point always is.
        is_faint: Whether the line is drawn behind the others, with low opacity.
    """

    name: str
    points: np.ndarray
    color: int | None = 0
    is_dashed: bool = False
    has_markers: bool = False
    is_faint: bool = False


def line_chart(title: str, lines: Sequence[Line], x_label: str, y_range: tuple[float, float] | None = None,
               x_range: tuple[float, float] | None = None, marks: Sequence[tuple[float, str]] = ()) -> Element:
    """Draw lines.

    Args:
        title: Heading of the chart.
        lines: The lines.
        x_label: Name of the horizontal axis.
        y_range: Lowest and highest value of the vertical axis; by default those of the lines.
        x_range: The same for the horizontal axis.
        marks: Values of x at which a vertical line is drawn, with a text.

    Returns:
        A figure with heading, chart and legend.
    """
    lines = [Line(each.name, _finite(each.points), *list(vars(each).values())[2:]) for each in lines]
    lines = [each for each in lines if len(each.points)]
    if not lines:
        return tag('figure', tag('figcaption', title), note('No finite values.'), class_='chart')
    every = np.concatenate([each.points for each in lines])
    low, high = x_range or (every[:, 0].min(), every[:, 0].max())
    bottom, top = y_range or (every[:, 1].min(), every[:, 1].max())
    if high <= low:
        low, high = low - 0.5, high + 0.5
    if top <= bottom:
        top = bottom + max(abs(bottom) * 0.1, 1e-9)

    def place(points: np.ndarray) -> np.ndarray:
        x = _LEFT + (points[:, 0] - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)
        y = _HEIGHT - _BOTTOM - (points[:, 1] - bottom) / (top - bottom) * (_HEIGHT - _TOP - _BOTTOM)
        return np.stack([x, y.clip(_TOP, _HEIGHT - _BOTTOM)], 1)

    svg = tag('svg', _axes(place, (low, high), (bottom, top), x_label), viewBox=f'0 0 {_WIDTH} {_HEIGHT}', role='img',
              aria_label=title)
    for x, text in marks:
        if not low <= x <= high:
            continue
        at = place(np.array([[x, bottom]]))[0, 0]
        side = 'end' if at > _WIDTH * 0.6 else 'start'
        svg.append(tag('line', x1=f'{at:.1f}', x2=f'{at:.1f}', y1=_TOP, y2=_HEIGHT - _BOTTOM, class_='mark'))
        svg.append(tag('text', text, x=f'{at + (4 if side == "start" else -4):.1f}', y=_TOP + 10, text_anchor=side))
    for each in sorted(lines, key=lambda line: not line.is_faint):
        svg.append(_draw(each, place(_thinned(each.points))))
        if len(each.points) == 1 or each.has_markers and len(each.points) <= _MOST_MARKERS:
            svg.extend(tag('circle', tag('title', f'{each.name}: {y:.4g} at {x:g}'), cx=f'{cx:.1f}', cy=f'{cy:.1f}',
                           r=3, class_=_color(each))
                       for (x, y), (cx, cy) in zip(each.points.tolist(), place(each.points).tolist()))
    legend = [tag('li', tag('span', class_=f'key {_color(each)}{" dashed" * each.is_dashed}'), each.name)
              for each in lines if each.name]
    return tag('figure', tag('figcaption', title), svg, tag('ul', legend, class_='legend') if legend else None,
               class_='chart')


def _draw(line: Line, points: np.ndarray) -> Element:
    path = 'M' + 'L'.join(f'{x:.1f} {y:.1f}' for x, y in points.tolist())
    names = [_color(line), *['dashed'] * line.is_dashed, *['faint'] * line.is_faint]
    return tag('path', d=path, class_=f'line {" ".join(names)}')


def _color(line: Line) -> str:
    return 'ct' if line.color is None else f'c{line.color % COLORS}'


def _axes(place, x_range: tuple[float, float], y_range: tuple[float, float], x_label: str) -> list[Element]:
    elements = []
    for value in _ticks(*y_range, 5):
        y = place(np.array([[x_range[0], value]]))[0, 1]
        elements.append(tag('line', x1=_LEFT, x2=_WIDTH - _RIGHT, y1=f'{y:.1f}', y2=f'{y:.1f}', class_='rule'))
        elements.append(tag('text', _tick_text(value), x=_LEFT - 6, y=f'{y + 4:.1f}', text_anchor='end'))
    for value in _ticks(*x_range, 6):
        x = place(np.array([[value, y_range[0]]]))[0, 0]
        elements.append(tag('line', x1=f'{x:.1f}', x2=f'{x:.1f}', y1=_TOP, y2=_HEIGHT - _BOTTOM, class_='rule'))
        elements.append(tag('text', _tick_text(value), x=f'{x:.1f}', y=_HEIGHT - _BOTTOM + 16, text_anchor='middle'))
    elements.append(tag('text', x_label, x=(_LEFT + _WIDTH - _RIGHT) / 2, y=_HEIGHT - 8, text_anchor='middle'))
    return elements


def _ticks(low: float, high: float, count: int) -> list[float]:
    from matplotlib.ticker import MaxNLocator
    values = MaxNLocator(nbins=count, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    margin = (high - low) * 1e-6
    return [float(value) for value in values if low - margin <= value <= high + margin]


def _tick_text(value: float) -> str:
    if value and abs(value) < 1e-3:
        return f'{value:.1e}'.replace('.0e', 'e').replace('e-0', 'e-')
    if abs(value) >= 10000:
        return f'{value / 1000:g}k'
    return f'{round(value, 6):g}'


def _finite(points: np.ndarray) -> np.ndarray:
    points = np.asarray(points, float).reshape(-1, 2)
    return points[np.isfinite(points).all(1)]


def _thinned(points: np.ndarray) -> np.ndarray:
    """Average groups of consecutive points if there are more than can be distinguished."""
    if len(points) <= _MOST_POINTS:
        return points
    inner = [part.mean(0) for part in np.array_split(points[1:-1], _MOST_POINTS - 2)]
    return np.stack([points[0], *inner, points[-1]])
