"""Figures with a table of pictures, and the heatmaps that they show."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from skdict._utils.sklearn_private import check_matplotlib_support
from skdict._utils.types import Data
from skdict.images import token_heatmaps
from skdict.metrics import direction_cosines

from ._style import _RC, plain
from .estimators import check_feature, encode, fitted_attribute, rows_before

QUANTITIES = ("cosine", "activation")

_PADDING = 0.05  # inches around the panels


def check_quantity(quantity: str) -> None:
    if quantity not in QUANTITIES:
        raise ValueError(f"quantity must be one of {QUANTITIES}, got {quantity!r}.")


def feature_heatmaps(
    estimator: Any, X: Data, grid_shape: Data, feature: int | None, quantity: str
) -> np.ndarray:
    """Compute the heatmaps of one feature of a fitted dictionary or Pipeline."""
    check_quantity(quantity)
    atoms = fitted_attribute(estimator, "components_")
    feature = check_feature(feature, len(atoms))
    if quantity == "activation":
        values = encode(estimator, X)[:, [feature]]
    else:
        values = direction_cosines(rows_before(estimator, X), atoms[feature])
    return token_heatmaps(values, grid_shape)


@contextmanager
def panels(
    ax: Any,
    shape: tuple[int, int],
    caller: str,
    *,
    size: float,
    wrap: int | None = None,
) -> Iterator[Any]:
    """Provide axes for a table of pictures: those given, or those of a new figure.

    Parameters
    ----------
    ax : matplotlib Axes, array-like of them, or None
    shape : tuple of int, (n_rows, n_columns)
    caller : str
        Name of the method that needs matplotlib, for the message if it is missing.
    size : float
        Height and width of a new panel, in inches.
    wrap : int, default=None
        Number of panels after which a single row or column is broken. None: never.

    Yields
    ------
    axes : ndarray of shape (n_rows, n_columns) of Axes
    """
    check_matplotlib_support(caller)
    import matplotlib.pyplot as plt

    n_panels = shape[0] * shape[1]
    if ax is not None:
        axes = np.array(ax, dtype=object).ravel()
        if axes.size != n_panels:
            raise ValueError(
                f"The display has {shape[0]} x {shape[1]} panels, but ax holds "
                f"{axes.size} axes: pass one for each panel."
            )
        yield axes.reshape(shape)
        return
    n_rows, n_columns = shape
    if wrap is not None and 1 in shape:
        n_columns = min(wrap, n_panels)
        n_rows = -(-n_panels // n_columns)
    with plt.rc_context(_RC):
        figure, axes = plt.subplots(
            n_rows,
            n_columns,
            figsize=(size * n_columns + 0.6, (size + 0.2) * n_rows + 0.2),
            layout="compressed",
            squeeze=False,
        )
        try:
            for spare in axes.ravel()[n_panels:]:
                spare.remove()
            yield axes.ravel()[:n_panels].reshape(shape)
            _cut_margins(figure)
        except BaseException:
            plt.close(figure)
            raise


def _cut_margins(figure: Any) -> None:
    """Cut off the margins that the fixed aspect of the panels leaves empty."""
    from matplotlib.transforms import Bbox

    figure.draw_without_rendering()
    boxes = [ax.get_tightbbox() for ax in figure.axes]
    width, height = Bbox.union(boxes).size / figure.dpi
    if figure.get_suptitle():
        title = max(figure.texts, key=lambda text: text.get_position()[1])
        height += title.get_window_extent().height / figure.dpi + _PADDING
    figure.set_size_inches(width + 2 * _PADDING, height + 2 * _PADDING)


def feature_label(quantity: str, feature: int | None) -> str:
    if feature is None:
        return quantity
    return (
        quantity
        + {"cosine": " with", "activation": " of"}[quantity]
        + f" feature {plain(feature)}"
    )


def add_colorbar(
    axes: np.ndarray, norm: Any, cmap: Any, quantity: str, feature: int | None
) -> Any:
    """Add one opaque colour bar for all panels, to their right."""
    from matplotlib.cm import ScalarMappable

    colorbar = axes.ravel()[0].figure.colorbar(
        ScalarMappable(norm, cmap),
        ax=axes.ravel().tolist(),
        label=feature_label(quantity, feature),
        shrink=0.8,
        pad=0.02,
    )
    colorbar.outline.set_linewidth(0.5)
    return colorbar
