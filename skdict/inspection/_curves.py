"""Curves against numbers of features, with bands and horizontal references."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import numpy as np

from skdict._utils.sklearn_private import validate_style_kwargs

from ._style import ONCE, ink, plain

_MARKERS = "osD^vP*"
# Line styles of the references.
_DASHES = ((0, (4, 2)), (0, (1, 1.5)), (0, (4, 1.5, 1, 1.5)))


def draw_curve(
    ax: Any, x: Any, mean: Any, label: str | None, kwargs: dict[str, Any]
) -> Any:
    """Draw a curve, with the marker after those of the curves that are there."""
    style = {
        "marker": _MARKERS[len(_curves(ax)) % len(_MARKERS)],
        "label": None if label is None else plain(label),
    }
    (line,) = ax.plot(x, mean, **validate_style_kwargs(style, kwargs))
    return line


def draw_band(
    ax: Any, line: Any, mean: Any, std: Any, kwargs: dict[str, Any] | None
) -> Any:
    """Draw mean ± standard deviation in the colour of a curve."""
    style = {"color": line.get_color(), "alpha": 0.2, "linewidth": 0}
    low, high = np.subtract(mean, std), np.add(mean, std)
    return ax.fill_between(line.get_xdata(), low, high, **style | (kwargs or {}))


def draw_references(ax: Any, references: dict[str, float]) -> list[Any]:
    """Draw values, by name, as horizontal lines."""
    return [
        ax.axhline(value, label=plain(reference), **style)
        for (reference, value), style in zip(
            references.items(), cycle(_reference_styles(ax)), strict=False
        )
    ]


def _reference_styles(ax: Any) -> list[dict[str, Any]]:
    common = {"color": ink(ax), "linewidth": 1, "zorder": 1.5, "gid": ONCE}
    return [{"linestyle": dashes, **common} for dashes in _DASHES]


def _curves(ax: Any) -> list[Any]:
    """List the curves, without the horizontal lines."""
    return [line for line in ax.get_lines() if line.get_transform() == ax.transData]


def set_ticks(ax: Any) -> None:
    """Put ticks at the numbers of the curves, as many as have room."""
    sizes = np.unique(np.concatenate([line.get_xdata() for line in _curves(ax)]))
    ticks = [sizes[-1]]
    for size in sizes[-2::-1]:
        # A tenth of the axis is as wide as a number of three or four digits.
        if np.log(ticks[-1] / size) > 0.1 * np.log(sizes[-1] / sizes[0]):
            ticks.append(size)
    ax.set_xticks(ticks, [f"{size:g}" for size in ticks])
    ax.minorticks_off()
