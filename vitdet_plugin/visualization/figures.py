"""What all figures share: how they are made without a display, and how their axes look."""


def new_figure(width: float, height: float, dpi: int = 110):
    """An empty matplotlib figure, inches wide and high, that can be saved on a machine without a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=dpi, layout='constrained')
    FigureCanvasAgg(figure)
    return figure


def tidy(axes) -> None:
    """A faint grid behind what is drawn, and no frame above and on the right."""
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[['top', 'right']].set_visible(False)
