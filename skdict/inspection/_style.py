"""What the figures have in common: colours, sizes, the axes to draw on."""

from contextlib import contextmanager
from textwrap import fill
from typing import Any

import numpy as np

from skdict._utils.sklearn_private import check_matplotlib_support

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

# One letter in the place of an escaped dollar, of those that no font may use.
_DOLLAR = "\ufdd0"

# Marks the figures made here.
_GID = "skdict.inspection"

# Marks what stands once in a legend, however many displays have drawn it.
ONCE = "skdict.inspection.once"
_MAX_COLOURS = 4  # of one entry

_TICK_SIZE = 7
_RC: dict[Any, Any] = {
    "figure.dpi": 200,
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "xtick.labelsize": _TICK_SIZE,
    "ytick.labelsize": _TICK_SIZE,
    "legend.fontsize": _TICK_SIZE,
    "legend.title_fontsize": _TICK_SIZE,
    "legend.framealpha": 0.8,
    "legend.edgecolor": "none",
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


def legend_above(ax, handles=None, *, height=2.0):
    """A legend above the axes, where it hides nothing that is drawn.

    In two columns, or in one where two are too wide; long names are broken.

    Parameters
    ----------
    ax : matplotlib Axes
        Where the legend belongs.
    handles : list of matplotlib artists, default=None
        What stands in it; None: all that has a label.
    height : float, default=2.0
        What a figure of ours keeps for the axes below the legend, in inches.
    """
    if handles is None:
        handles, labels = _entries(ax)
    else:
        labels = [handle.get_label() for handle in handles]
    if not handles:
        return
    from matplotlib.legend_handler import HandlerTuple

    def draw(labels, ncols, **place):
        return ax.legend(
            handles,
            labels,
            handler_map={tuple: HandlerTuple(ndivide=None, pad=0)},
            ncols=ncols,
            **({"loc": "lower left", "bbox_to_anchor": (0, 1)} | place),
            borderaxespad=0.2,
        )

    # The layout may leave less.
    room = 0.9 * ax.get_window_extent().width
    legend = draw(labels, 2)
    if legend.get_window_extent().width > room:
        legend = draw(labels, 1)
    too_wide = legend.get_window_extent().width - room
    if too_wide > 0:
        longest = max(legend.get_texts(), key=lambda t: t.get_window_extent().width)
        width = longest.get_window_extent().width
        n_letters = int(len(longest.get_text()) * (1 - too_wide / width))
        labels = [in_lines(label, max(n_letters, 10)) for label in labels]
        legend = draw(labels, 1)
    size = legend.get_window_extent().height
    if ax.figure.get_gid() == _GID:
        needed = height + size / ax.figure.dpi
        ax.figure.set_figheight(max(ax.figure.get_figheight(), needed))
    elif size > ax.get_window_extent().height / 2:
        # No room above axes whose size is the caller's.
        legend = draw(labels, 1, loc="best", bbox_to_anchor=None, fontsize="xx-small")
        legend.set_in_layout(False)


def _entries(ax):
    """What has a label, in its order; at the end what stands once, in its colours."""
    entries: dict[Any, list] = {}
    last: dict[Any, list] = {}
    for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
        once = getattr(handle, "get_gid", str)() == ONCE
        if once:
            last.setdefault(label, []).append(handle)
        else:
            entries[label, id(handle)] = [handle]
    entries = {**entries, **last}
    handles = []
    for same in entries.values():
        distinct = {_colour_of(handle): handle for handle in reversed(same)}
        chosen = tuple(reversed(distinct.values()))[:_MAX_COLOURS]
        handles.append(chosen if len(chosen) > 1 else chosen[0])
    return handles, [key if isinstance(key, str) else key[0] for key in entries]


def _colour_of(handle):
    for getter in ("get_facecolor", "get_color"):
        if hasattr(handle, getter):
            return str(getattr(handle, getter)())
    return ""


def plain(name):
    """A name as matplotlib draws it letter by letter, and puts it into legends."""
    text = str(name).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def in_lines(text, width):
    """A text in lines of at most so many letters."""
    # A line that ends between a backslash and its dollar starts a formula.
    return fill(text.replace(r"\$", _DOLLAR), width).replace(_DOLLAR, r"\$")


def label_y(ax, text):
    """Label the y-axis, in as many lines as its height asks for."""
    inches = ax.get_window_extent().height / ax.figure.dpi
    # Letters are half as wide as high, more or less.
    letter = 0.55 * ax.yaxis.label.get_size() / 72
    ax.set_ylabel(in_lines(text, max(int(1.1 * inches / letter), 10)))


def ink(ax):
    """Colour of the text of axes, which is seen on their ground."""
    return ax.xaxis.label.get_color()


def as_list(values):
    """Several curves as they are, one as a list of one."""
    return values if isinstance(values, list) else [values]


def _set_colours(ax):
    # What the caller has drawn there keeps its cycle of colours.
    if not ax.has_data():
        colours = [ink(ax) if colour == BLACK else colour for colour in COLOURS]
        # In every further round of colours the dashes move on by one, so that the
        # eighth line does not look like the first.
        n = len(colours)
        ax.set_prop_cycle(
            color=colours * n,
            linestyle=[LINE_STYLES[(i + i // n) % n] for i in range(n * n)],
        )


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
