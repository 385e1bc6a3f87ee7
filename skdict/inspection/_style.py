"""Style that all figures share: colours, sizes, axes and legends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from textwrap import fill
from typing import Any

import numpy as np

from skdict._utils.sklearn_private import check_matplotlib_support

# Okabe and Ito's colours, which differ for any form of colour vision, without yellow,
# which is too pale for a line on white.
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

# Line styles tell curves apart in print without colours.
LINE_STYLES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))

# Width of one column of a two-column page, in inches.
COLUMN_WIDTH = 3.4

# Stands for an escaped dollar, as a single letter. Unicode reserves it for such uses.
_DOLLAR = "\ufdd0"

# Marks figures that are made here.
_GID = "skdict.inspection"

# Marks artists that share one entry of a legend, however many displays have drawn them.
ONCE = "skdict.inspection.once"
_MAX_COLOURS = 4  # of such an entry

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
def drawing_on(
    ax: Any,
    caller: str,
    *,
    height: float = 2.4,
    n_rows: int = 1,
    layout: str = "constrained",
) -> Iterator[Any]:
    """Provide axes to draw on: those given, in their style, or new ones in ours.

    Parameters
    ----------
    ax : matplotlib Axes, array of them or None
        None makes a figure as wide as a journal column, which is closed again if
        drawing fails. For several rows, pass an Axes for each, or a single one to be
        divided.
    caller : str
        Name of the method that needs matplotlib, for the message if it is missing.
    height : float, default=2.4
        Height of a new figure in inches.
    n_rows : int, default=1
        Number of rows of a new figure, which share their x axis.
    layout : {"constrained", "compressed"}, default="constrained"
        Layout of a new figure; "compressed" for axes of a fixed aspect.

    Yields
    ------
    axes : matplotlib Axes, or ndarray of shape (n_rows,) of them if n_rows > 1
    """
    check_matplotlib_support(caller)
    import matplotlib.pyplot as plt

    if ax is not None:
        axes = [ax] if n_rows == 1 else _divided(ax, n_rows)
        for given in axes:
            _set_colours(given)
        # Draw a second curve in a figure of ours in the style of the first.
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
            # Ticks are created when the figure is drawn, after this context has ended.
            new.tick_params(which="both", labelsize=_TICK_SIZE, width=0.7)
            _set_colours(new)
        try:
            yield axes[0, 0] if n_rows == 1 else axes[:, 0]
        except BaseException:
            plt.close(figure)
            raise


def legend_above(
    ax: Any, handles: list[Any] | None = None, *, height: float = 2.0
) -> None:
    """Draw a legend above the axes, where it hides nothing.

    It has two columns, or one if two are too wide. Long names are broken into lines.

    Parameters
    ----------
    ax : matplotlib Axes
        The axes.
    handles : list of matplotlib artists, default=None
        Artists in the legend. None means all that have a label.
    height : float, default=2.0
        Height in inches that a figure of ours keeps for the axes below the legend.
    """
    if handles is None:
        handles, labels = _entries(ax)
    else:
        labels = [handle.get_label() for handle in handles]
    if not handles:
        return
    from matplotlib.legend_handler import HandlerTuple

    def draw(labels: list[str], ncols: int, **place: Any) -> Any:
        return ax.legend(
            handles,
            labels,
            handler_map={tuple: HandlerTuple(ndivide=None, pad=0)},
            ncols=ncols,
            **({"loc": "lower left", "bbox_to_anchor": (0, 1)} | place),
            borderaxespad=0.2,
        )

    # Keep a reserve: the layout may make the axes narrower.
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
        # The caller has set the size of the axes, and there is no room above them.
        legend = draw(labels, 1, loc="best", bbox_to_anchor=None, fontsize="xx-small")
        legend.set_in_layout(False)


def _entries(ax: Any) -> tuple[list[Any], list[str]]:
    """List the artists with labels in their order, and those marked `ONCE` at the end.

    A marked entry shows the colours of all its artists.
    """
    entries: dict[Any, list[Any]] = {}
    last: dict[Any, list[Any]] = {}
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


def _colour_of(handle: Any) -> str:
    for getter in ("get_facecolor", "get_color"):
        if hasattr(handle, getter):
            return str(getattr(handle, getter)())
    return ""


def plain(name: Any) -> str:
    """Escape a name so that matplotlib draws its letters and shows it in legends."""
    text = str(name).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def in_lines(text: str, width: int) -> str:
    """Break a text into lines of at most `width` letters."""
    # If a line ended between a backslash and its dollar, the dollar would start a
    # formula.
    return fill(text.replace(r"\$", _DOLLAR), width).replace(_DOLLAR, r"\$")


def label_y(ax: Any, text: str) -> None:
    """Label the y-axis, in lines that fit its height."""
    inches = ax.get_window_extent().height / ax.figure.dpi
    # Letters are about half as wide as high.
    letter = 0.55 * ax.yaxis.label.get_size() / 72
    ax.set_ylabel(in_lines(text, max(int(1.1 * inches / letter), 10)))


def ink(ax: Any) -> Any:
    """Colour of the text of axes, which contrasts with their background."""
    return ax.xaxis.label.get_color()


def as_list(values: Any) -> list[Any]:
    """Return the list of several curves as it is, and one curve in a list."""
    return values if isinstance(values, list) else [values]


def _set_colours(ax: Any) -> None:
    # Axes on which the caller has drawn keep their cycle of colours.
    if not ax.has_data():
        colours = [ink(ax) if colour == BLACK else colour for colour in COLOURS]
        # Shift the dashes by one in each round of colours, so that the eighth line does
        # not look like the first.
        n = len(colours)
        ax.set_prop_cycle(
            color=colours * n,
            linestyle=[LINE_STYLES[(i + i // n) % n] for i in range(n * n)],
        )


def _divided(ax: Any, n_rows: int) -> np.ndarray:
    """Return `n_rows` axes: those given, or the parts of a single one."""
    if np.size(ax) == n_rows:
        return np.ravel(ax)
    if np.size(ax) != 1 or np.ravel(ax)[0].get_subplotspec() is None:
        raise ValueError(
            f"{n_rows} quantities are drawn, so ax must be {n_rows} Axes, or one in a "
            f"grid of subplots that can be divided; got {np.size(ax)}."
        )
    whole = np.ravel(ax)[0]
    # Keep it, empty, because the caller may still ask for its position.
    whole.set_axis_off()
    return whole.get_subplotspec().subgridspec(n_rows, 1).subplots(sharex=True)
