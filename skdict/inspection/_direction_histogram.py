"""Histograms of the cosines of a direction with samples."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.utils.validation import column_or_1d

from skdict._utils.labels import as_labels, equals
from skdict._utils.sklearn_private import check_matplotlib_support
from skdict._utils.types import Data
from skdict.metrics import direction_cosines

from ._style import GREY, VERMILION, drawing_on, legend_above, plain
from .estimators import check_feature, fitted_attribute, rows_before


class DirectionHistogramDisplay:
    """Histograms of a direction's cosines with the samples of a label and the others.

    It is recommended to use :meth:`from_estimator` or :meth:`from_predictions`. All
    parameters are stored as attributes.

    Parameters
    ----------
    cosines : ndarray of shape (n_samples,)
        Cosine of the direction with each sample.
    is_label : ndarray of shape (n_samples,), bool
        Mask of the samples with the label.
    label : label of a class, default=None
        The label, for the legend.
    feature : int, default=None
        Index of the direction, for the label of the x-axis.

    Attributes
    ----------
    label_patch_, rest_patch_ : matplotlib StepPatch
        The two histograms.
    ax_ : matplotlib Axes
        Axes with the histograms.
    figure_ : matplotlib Figure
        Figure with the histograms.

    See Also
    --------
    skdict.metrics.direction_cosines : Computes the cosines.
    skdict.metrics.auroc_scores : How well codes separate the two.

    Notes
    -----
    Both histograms have the same bins and area 1, however many samples they count, as
    in [1]_.

    References
    ----------
    .. [1] K. Donhauser et al. "Towards scientific discovery with dictionary
       learning: extracting biological concepts from microscopy foundation models."
       ICML 2025. arXiv:2412.16247.

    Examples
    --------
    >>> from skdict.inspection import DirectionHistogramDisplay
    >>> cosines, y = [0.9, 0.8, 0.1, -0.2, 0.0], ["a", "a", "b", "b", "c"]
    >>> display = DirectionHistogramDisplay.from_predictions(
    ...     cosines, y, label="a", bins=2
    ... )
    >>> display.is_label.tolist()
    [True, True, False, False, False]
    """

    def __init__(
        self,
        *,
        cosines: np.ndarray,
        is_label: np.ndarray,
        label: Any = None,
        feature: int | None = None,
    ) -> None:
        self.cosines = cosines
        self.is_label = is_label
        self.label = label
        self.feature = feature

    def plot(
        self,
        ax: Any = None,
        *,
        bins: int | Data = 40,
        rest_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the histograms.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure as wide as a journal column.
        bins : int or array-like of edges, default=40
            Bins, as in :func:`numpy.histogram_bin_edges`.
        rest_kwargs : dict, default=None
            Arguments for matplotlib's `stairs`, which draws the rest.
        **kwargs : dict
            Arguments for matplotlib's `stairs`, which draws the label.

        Returns
        -------
        display : DirectionHistogramDisplay
            The object itself.
        """
        cosines, is_label = np.asarray(self.cosines), np.asarray(self.is_label)
        edges = np.histogram_bin_edges(cosines, bins)
        name = "the label" if self.label is None else plain(self.label)
        with drawing_on(ax, f"{type(self).__name__}.plot") as ax:
            common = {"fill": True, "alpha": 0.5}
            # Draw the rest first, behind the label: it is usually wider.
            rest = common | {"color": GREY, "label": "all others"}
            self.rest_patch_ = ax.stairs(
                *np.histogram(cosines[~is_label], edges, density=True),
                **rest | (rest_kwargs or {}),
            )
            self.label_patch_ = ax.stairs(
                *np.histogram(cosines[is_label], edges, density=True),
                **common | {"color": VERMILION, "label": name} | kwargs,
            )
            of = (
                "direction"
                if self.feature is None
                else f"direction {plain(self.feature)}"
            )
            ax.set(xlabel=f"cosine of {of} and sample", ylabel="density")
            legend_above(ax, [self.label_patch_, self.rest_patch_])
        self.ax_, self.figure_ = ax, ax.figure
        return self

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Data,
        y: Data,
        *,
        feature: int,
        label: Any,
        ax: Any = None,
        bins: int | Data = 40,
        rest_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the cosines of one atom of a dictionary with rows.

        Parameters
        ----------
        estimator : estimator instance
            Fitted dictionary with `components_`, or a fitted
            :class:`~sklearn.pipeline.Pipeline` whose last step is one. The cosines
            are those of the rows as they reach it.
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,)
            Labels.
        feature : int
            Index of the atom.
        label : label of a class
            Class that is compared with all others.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure as wide as a journal column.
        bins : int or array-like of edges, default=40
            Bins, as in :func:`numpy.histogram_bin_edges`.
        rest_kwargs : dict, default=None
            Arguments for matplotlib's `stairs`, which draws the rest.
        **kwargs : dict
            Arguments for matplotlib's `stairs`, which draws the label.

        Returns
        -------
        display : DirectionHistogramDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If there is no such feature; also as :meth:`from_predictions`.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        components = fitted_attribute(estimator, "components_")
        feature = check_feature(feature, len(components))
        cosines = direction_cosines(rows_before(estimator, X), components[feature])
        display = cls._from_cosines(cosines, y, label, feature)
        return display.plot(ax, bins=bins, rest_kwargs=rest_kwargs, **kwargs)

    @classmethod
    def from_predictions(
        cls,
        cosines: Data,
        y: Data,
        *,
        label: Any,
        feature: int | None = None,
        ax: Any = None,
        bins: int | Data = 40,
        rest_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Draw given cosines.

        Parameters
        ----------
        cosines : array-like of shape (n_samples,)
            Cosine of a direction with each sample, for example from
            :func:`~skdict.metrics.direction_cosines`.
        y : array-like of shape (n_samples,)
            Labels.
        label : label of a class
            Class that is compared with all others.
        feature : int, default=None
            Index of the direction, for the label of the x-axis.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure as wide as a journal column.
        bins : int or array-like of edges, default=40
            Bins, as in :func:`numpy.histogram_bin_edges`.
        rest_kwargs : dict, default=None
            Arguments for matplotlib's `stairs`, which draws the rest.
        **kwargs : dict
            Arguments for matplotlib's `stairs`, which draws the label.

        Returns
        -------
        display : DirectionHistogramDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If lengths differ, if cosines are NaN or infinite, or if no sample or
            every sample has the label.
        """
        check_matplotlib_support(f"{cls.__name__}.from_predictions")
        display = cls._from_cosines(cosines, y, label, feature)
        return display.plot(ax, bins=bins, rest_kwargs=rest_kwargs, **kwargs)

    @classmethod
    def _from_cosines(
        cls, cosines: Data, y: Data, label: Any, feature: int | None
    ) -> Self:
        cosines = column_or_1d(cosines, dtype=np.float64)
        y = as_labels(y, "y", len(cosines))
        bad = np.flatnonzero(~np.isfinite(cosines))
        if bad.size:
            raise ValueError(
                f"{bad.size} of {len(cosines)} cosines are NaN or infinite, the first "
                f"of them at row {bad[0]}."
            )
        is_label = equals(y, label, "label")
        if is_label.all() or not is_label.any():
            raise ValueError(
                f"{'Every' if is_label.all() else 'No'} sample has the label "
                f"{label!r}, so there is nothing to compare."
            )
        return cls(cosines=cosines, is_label=is_label, label=label, feature=feature)
