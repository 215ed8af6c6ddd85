"""Creation and style of matplotlib figures."""

import functools
import warnings
from pathlib import Path

from vitdet_plugin.utils.output import warn
from vitdet_plugin.utils.output_files import write_atomically

# for letters that matplotlib's own font lacks, such as Chinese, Japanese and Korean class names
_FALLBACKS = ('Noto Sans CJK SC', 'Noto Sans CJK JP', 'Source Han Sans CN', 'WenQuanYi Micro Hei', 'WenQuanYi Zen Hei',
              'Microsoft YaHei', 'SimHei', 'PingFang SC', 'Hiragino Sans', 'Malgun Gothic', 'Noto Sans Arabic',
              'Noto Sans Devanagari', 'Noto Sans Thai', 'Unifont')


@functools.cache
def _installed_fonts() -> list[str]:
    from matplotlib import font_manager
    installed = {each.name for each in font_manager.fontManager.ttflist}
    return [name for name in _FALLBACKS if name in installed]


def new_figure(width: float, height: float, dpi: int = 110):
    """Create an empty matplotlib figure that can be saved without a display.

    Args:
        width: Width in inches.
        height: Height in inches.
        dpi: Resolution in dots per inch.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=dpi, layout='constrained')
    FigureCanvasAgg(figure)
    return figure


def save(figure, path: Path) -> Path:
    """Write a figure to a file, whose folder is created; return the path.

    Letters that no installed font has are drawn as boxes, with one line that says so.

    Raises:
        UserError: The file cannot be written.
    """
    from matplotlib.text import Text
    for text in figure.findobj(Text) if _installed_fonts() else ():
        text.set_fontfamily([*text.get_fontfamily(), *_installed_fonts()])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        write_atomically(path, lambda file: figure.savefig(file, format=path.suffix[1:] or None))
    missing = sum('missing from' in str(each.message) for each in caught)
    if missing:
        warn(f'{path}: {missing} letters are drawn as boxes, as no installed font has them; install one, such as Noto '
             'Sans CJK')
    for each in caught:
        if 'missing from' not in str(each.message):
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
    return path


def plain(text: str) -> str:
    """Return a text that matplotlib shows as it is: ``$`` starts no formula, ``_`` hides no entry of a legend."""
    return (' ' if text.startswith('_') else '') + text.replace('$', '\\$')


def style_axes(axes) -> None:
    """Draw a light grid below the data and hide the top and right borders."""
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[['top', 'right']].set_visible(False)
