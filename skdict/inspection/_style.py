"""What the figures have in common: colours, sizes, the axes to draw on."""

from contextlib import contextmanager

from sklearn.utils._optional_dependencies import check_matplotlib_support

# Okabe and Ito's colours, told apart with any form of colour vision, without the
# yellow, which is too pale for a line on white.
BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK = COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
)
GREY = "0.45"

# The line as a second cue, where colours are lost.
LINE_STYLES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))

# One column of a two-column page, in inches.
COLUMN_WIDTH = 3.4

# Marks the figures made here.
_GID = "skdict.inspection"

_TICK_SIZE = 7
_RC = {
    "figure.dpi": 200,
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "legend.fontsize": _TICK_SIZE,
    "legend.title_fontsize": _TICK_SIZE,
    "legend.framealpha": 0.8,
    "legend.edgecolor": "white",
    "legend.handlelength": 1.8,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.4,
    "lines.markersize": 4,
}


@contextmanager
def drawing_on(ax, caller, *, height=2.4, n_rows=1):
    """Axes to draw on: those given, in their own style, or new ones in ours.

    Parameters
    ----------
    ax : matplotlib Axes or None
        None makes a figure as wide as a column; it is closed again where drawing
        fails.
    caller : str
        Who needs matplotlib, for the message where there is none.
    height : float, default=2.4
        Of a new figure, in inches.
    n_rows : int, default=1
        Rows of a new figure, which share their x axis.

    Yields
    ------
    axes : matplotlib Axes, or ndarray of shape (n_rows,) of them where n_rows > 1
    """
    check_matplotlib_support(caller)
    import matplotlib.pyplot as plt

    if ax is not None:
        if n_rows == 1:
            _set_colours(ax)
        # A second curve in a figure of ours must not look like another author's.
        with plt.rc_context(_RC if ax.figure.get_gid() == _GID else {}):
            yield ax
        return
    with plt.rc_context(_RC):
        figure, axes = plt.subplots(
            n_rows,
            figsize=(COLUMN_WIDTH, height),
            layout="constrained",
            sharex=True,
            squeeze=False,
        )
        figure.set_gid(_GID)
        for new in axes[:, 0]:
            # Ticks are made when the figure is drawn, long after this context.
            new.tick_params(which="both", labelsize=_TICK_SIZE, width=0.7)
            _set_colours(new)
        try:
            yield axes[0, 0] if n_rows == 1 else axes[:, 0]
        except BaseException:
            plt.close(figure)
            raise


def _set_colours(ax):
    # What the caller has drawn there keeps its cycle of colours.
    if not ax.has_data():
        ax.set_prop_cycle(color=COLOURS, linestyle=LINE_STYLES)
