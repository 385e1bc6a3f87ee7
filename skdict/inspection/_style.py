"""What the figures have in common: colours, sizes, the axes to draw on."""

from contextlib import contextmanager

import numpy as np
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
    "xtick.labelsize": _TICK_SIZE,
    "ytick.labelsize": _TICK_SIZE,
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
def drawing_on(ax, caller, *, height=2.4, n_rows=1, layout="constrained"):
    """Axes to draw on: those given, in their own style, or new ones in ours.

    Parameters
    ----------
    ax : matplotlib Axes, array of them or None
        None makes a figure as wide as a column; it is closed again where drawing
        fails. For several rows, as many Axes or one that is divided.
    caller : str
        Who needs matplotlib, for the message where there is none.
    height : float, default=2.4
        Of a new figure, in inches.
    n_rows : int, default=1
        Rows of a new figure, which share their x axis.
    layout : {"constrained", "compressed"}, default="constrained"
        Of a new figure; "compressed" for axes of a fixed aspect.

    Yields
    ------
    axes : matplotlib Axes, or ndarray of shape (n_rows,) of them where n_rows > 1
    """
    check_matplotlib_support(caller)
    import matplotlib.pyplot as plt

    if ax is not None:
        axes = [ax] if n_rows == 1 else _divided(ax, n_rows)
        for given in axes:
            _set_colours(given)
        # A second curve in a figure of ours must not look like another author's.
        with plt.rc_context(_RC if axes[0].figure.get_gid() == _GID else {}):
            yield axes[0] if n_rows == 1 else axes
        return
    with plt.rc_context(_RC):
        figure, axes = plt.subplots(
            n_rows,
            figsize=(COLUMN_WIDTH, height),
            layout=layout,
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


def legend_above(ax, handles=None):
    """A legend above the axes, where it hides nothing that is drawn."""
    if handles is None:
        handles, _ = ax.get_legend_handles_labels()
    if handles:
        ax.legend(
            handles=handles,
            loc="lower left",
            bbox_to_anchor=(0, 1),
            ncols=2,
            borderaxespad=0.2,
        )


def as_list(values):
    """Several curves as they are, one as a list of one."""
    return values if isinstance(values, list) else [values]


def _set_colours(ax):
    # What the caller has drawn there keeps its cycle of colours.
    if not ax.has_data():
        ax.set_prop_cycle(color=COLOURS, linestyle=LINE_STYLES)


def _divided(ax, n_rows):
    """As many axes as rows: those given, or new ones in the place of one."""
    if np.size(ax) == n_rows:
        return np.ravel(ax)
    if np.size(ax) != 1 or np.ravel(ax)[0].get_subplotspec() is None:
        raise ValueError(
            f"{n_rows} quantities are drawn, so ax must be {n_rows} Axes, or one in a "
            f"grid of subplots that can be divided; got {np.size(ax)}."
        )
    whole = np.ravel(ax)[0]
    # Kept, but empty: the caller may still ask for its place.
    whole.set_axis_off()
    return whole.get_subplotspec().subgridspec(n_rows, 1).subplots(sharex=True)
