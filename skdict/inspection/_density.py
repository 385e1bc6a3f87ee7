"""Histogram of how often features fire."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from skdict._utils.constraints import check_name, is_integer
from skdict._utils.sklearn_private import check_matplotlib_support
from skdict._utils.types import Codes, Data
from skdict.metrics import feature_density

from ._style import ONCE, drawing_on, ink, legend_above, plain
from .estimators import encode, fitted_attribute

# Width of the bar of features that never fire, as a fraction of the axis.
_WIDTH_OF_NEVER = 0.13


class DensityDisplay:
    """Histogram of the features' densities on a logarithmic axis.

    It is recommended to use :meth:`from_estimator` or :meth:`from_predictions`. All
    parameters are stored as attributes.

    Parameters
    ----------
    density : ndarray of shape (n_components,)
        Fraction of the samples on which each feature fires.
    min_density : float, default=1e-5
        Density below which a feature is dead.
    name : str, default=None
        Name of the dictionary in the legend.

    Attributes
    ----------
    bars_ : matplotlib BarContainer
        Features that fire.
    never_bar_ : matplotlib BarContainer or None
        Features that never fire, at the left end; None if all fire.
    threshold_line_ : matplotlib Line2D
        Line at `min_density`.
    ax_ : matplotlib Axes
        Axes with the histogram.
    figure_ : matplotlib Figure
        Figure with the histogram.

    See Also
    --------
    skdict.metrics.feature_density : Computes the densities.
    skdict.metrics.dead_feature_fraction : Fraction of dead features.

    Notes
    -----
    With `n` samples no density lies between 0 and ``1 / n``. If `min_density` is at
    most ``1 / n``, only features that never fire are dead.

    Examples
    --------
    >>> from skdict.inspection import DensityDisplay
    >>> codes = [[1.0, 0.0, -2.0], [0.0, 0.0, 0.5]]
    >>> display = DensityDisplay.from_predictions(codes)
    >>> display.density
    array([0.5, 0. , 1. ])
    """

    def __init__(
        self, *, density: Data, min_density: float = 1e-5, name: str | None = None
    ) -> None:
        self.density = density
        self.min_density = min_density
        self.name = name

    def plot(
        self, ax: Any = None, *, name: str | None = None, bins: int = 30, **kwargs: Any
    ) -> Self:
        """Draw the histogram.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure as wide as a journal column.
        name : str, default=None
            Name of the dictionary in the legend; None means that of the constructor.
        bins : int, default=30
            Number of bins, of equal width on the logarithmic axis, up to density 1.
        **kwargs : dict
            Arguments for matplotlib's `bar`.

        Returns
        -------
        display : DensityDisplay
            The object itself.

        Raises
        ------
        ValueError
            If `bins` is not a positive integer, or `min_density` not in (0, 1].
        """
        if not is_integer(bins) or bins < 1:
            raise ValueError(f"bins must be a positive integer, got {bins!r}.")
        if not 0 < self.min_density <= 1:
            raise ValueError(
                f"min_density must be in (0, 1], got {self.min_density!r}."
            )
        name = self.name if name is None else name
        check_name(name)
        density = np.asarray(self.density)
        fires = density > 0
        lowest = min(self.min_density, *density[fires], 0.1)
        # Half a decade of room, so that the line is not at the end of the axis.
        edges = np.geomspace(lowest / 3, 1, bins + 1)
        counts, _ = np.histogram(density[fires], edges)
        dead = density < self.min_density
        with drawing_on(ax, f"{type(self).__name__}.plot") as ax:
            summary = f"{dead.sum()} of {len(dead)} dead"
            kwargs = {
                "label": f"{plain(name)}: {summary}" if name else summary,
                "alpha": 0.7,  # the bars of a second dictionary lie over these
                "edgecolor": "white",
                "linewidth": 0.3,
            } | kwargs
            self.bars_ = ax.bar(
                edges[:-1], counts, np.diff(edges), align="edge", **kwargs
            )
            ax.set_xscale("log")
            ticks = _decades(edges[0])
            self.never_bar_ = None
            if not fires.all():
                left, right = edges[0] / 10**0.8, edges[0] / 10**0.4
                kwargs |= {"label": None, "facecolor": self.bars_[0].get_facecolor()}
                self.never_bar_ = ax.bar(
                    left, (~fires).sum(), right - left, align="edge", **kwargs
                )
                # A logarithmic axis has no 0: draw these features at its left end.
                never = np.sqrt(left * right)
                beside = never ** (1 - _WIDTH_OF_NEVER)
                ticks = {at: name for at, name in ticks.items() if at > beside}
                ticks[never] = "never"
            ax.set_xticks(list(ticks), list(ticks.values()))
            ax.minorticks_off()
            self.threshold_line_ = ax.axvline(
                self.min_density,
                color=ink(ax),
                linestyle="--",
                linewidth=1,
                label=f"dead below {self.min_density:g}",
                gid=ONCE,
            )
            ax.set(xlabel="density, fraction of samples", ylabel="number of features")
            legend_above(ax)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Data | None = None,
        *,
        min_density: float = 1e-5,
        name: str | None = None,
        ax: Any = None,
        bins: int = 30,
        **kwargs: Any,
    ) -> Self:
        """Draw the densities of a dictionary's features.

        Parameters
        ----------
        estimator : estimator instance
            Fitted dictionary, or a fitted :class:`~sklearn.pipeline.Pipeline` whose
            last step is one.
        X : array-like of shape (n_samples, n_features), default=None
            Rows to count over. None means `feature_density_`, from the last epoch of
            training.
        min_density : float, default=1e-5
            Density below which a feature is dead.
        name : str, default=None
            Name of the dictionary in the legend.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure as wide as a journal column.
        bins : int, default=30
            Number of bins, as in :meth:`plot`.
        **kwargs : dict
            Arguments for matplotlib's `bar`.

        Returns
        -------
        display : DensityDisplay
            The display, drawn.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        check_name(name)
        if X is None:
            density = np.asarray(fitted_attribute(estimator, "feature_density_"))
        else:
            density = feature_density(encode(estimator, X))
        display = cls(density=density, min_density=min_density, name=name)
        return display.plot(ax, bins=bins, **kwargs)

    @classmethod
    def from_predictions(
        cls,
        codes: Codes,
        *,
        min_density: float = 1e-5,
        name: str | None = None,
        ax: Any = None,
        bins: int = 30,
        **kwargs: Any,
    ) -> Self:
        """Draw the densities of the features of given codes.

        Parameters
        ----------
        codes : {array-like, sparse matrix or array} of shape (n_samples, n_components)
            Codes of the samples.
        min_density : float, default=1e-5
            Density below which a feature is dead.
        name : str, default=None
            Name of the dictionary in the legend.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure as wide as a journal column.
        bins : int, default=30
            Number of bins, as in :meth:`plot`.
        **kwargs : dict
            Arguments for matplotlib's `bar`.

        Returns
        -------
        display : DensityDisplay
            The display, drawn.
        """
        check_matplotlib_support(f"{cls.__name__}.from_predictions")
        display = cls(
            density=feature_density(codes), min_density=min_density, name=name
        )
        return display.plot(ax, bins=bins, **kwargs)


def _decades(lowest: float) -> dict[float, str]:
    """Positions and labels of up to seven powers of ten, the largest of them 1."""
    exponents = np.arange(0, np.log10(lowest), -1)
    exponents = exponents[:: -(-len(exponents) // 7)]
    return {10.0**e: f"$10^{{{e:.0f}}}$" if e else "1" for e in exponents}
