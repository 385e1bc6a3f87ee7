"""Figures of several pictures, and the values that they show."""

from contextlib import contextmanager

import numpy as np

from skdict._utils.sklearn_private import check_matplotlib_support
from skdict.images import token_heatmaps
from skdict.metrics import direction_cosines

from ._style import _RC, plain
from .estimators import check_feature, encode, fitted_attribute, rows_before

QUANTITIES = ("cosine", "activation")

_PADDING = 0.05  # inches around the panels


def check_quantity(quantity):
    if quantity not in QUANTITIES:
        raise ValueError(f"quantity must be one of {QUANTITIES}, got {quantity!r}.")


def feature_heatmaps(estimator, X, grid_shape, feature, quantity):
    """Heatmaps of one feature of a fitted dictionary or Pipeline."""
    check_quantity(quantity)
    atoms = fitted_attribute(estimator, "components_")
    feature = check_feature(feature, len(atoms))
    if quantity == "activation":
        values = encode(estimator, X)[:, [feature]]
    else:
        values = direction_cosines(rows_before(estimator, X), atoms[feature])
    return token_heatmaps(values, grid_shape)


@contextmanager
def panels(ax, shape, caller, *, size, wrap=None):
    """Axes for a table of pictures: those given, or those of a new figure.

    Parameters
    ----------
    ax : matplotlib Axes, array-like of them, or None
    shape : tuple of int, (n_rows, n_columns)
    caller : str
        Who needs matplotlib, for the message where there is none.
    size : float
        Height and width of a new panel, in inches.
    wrap : int, default=None
        A single row or column is broken into rows of so many panels.

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
                f"The display has {shape[0]} x {shape[1]} panels and needs as many "
                f"axes, but ax holds {axes.size}."
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


def _cut_margins(figure):
    """Make a figure no larger than what the fixed aspect of its panels fills."""
    from matplotlib.transforms import Bbox

    figure.draw_without_rendering()
    boxes = [ax.get_tightbbox() for ax in figure.axes]
    width, height = Bbox.union(boxes).size / figure.dpi
    if figure.get_suptitle():
        title = max(figure.texts, key=lambda text: text.get_position()[1])
        height += title.get_window_extent().height / figure.dpi + _PADDING
    figure.set_size_inches(width + 2 * _PADDING, height + 2 * _PADDING)


def feature_label(quantity, feature):
    if feature is None:
        return quantity
    return (
        quantity
        + {"cosine": " with", "activation": " of"}[quantity]
        + f" feature {plain(feature)}"
    )


def add_colorbar(axes, norm, cmap, quantity, feature):
    """One colour bar for all panels, at their right, opaque."""
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
