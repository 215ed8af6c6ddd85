"""Creation and style of matplotlib figures."""

from pathlib import Path


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
    """Write a figure to a file, whose folder is created; return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path


def plain(text: str) -> str:
    """Return a text that matplotlib shows as it is: ``$`` starts no formula, ``_`` hides no entry of a legend."""
    return (' ' if text.startswith('_') else '') + text.replace('$', '\\$')


def style_axes(axes) -> None:
    """Draw a light grid below the data and hide the top and right borders."""
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[['top', 'right']].set_visible(False)
