"""Means of a measure with their intervals, one line for each dictionary."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd

from skdict._utils.sklearn_private import (
    check_param_lengths,
    validate_style_kwargs,
)
from skdict.stats import mean_interval

from ._style import GREY, drawing_on, in_lines, label_y, legend_above, plain
from ._tables import check_runs

_LABELS = {
    "l0": "non-zeros of a code",
    "cosine": "cosine of x and reconstruction",
    "dead_fraction": "fraction of dead features",
    "probe_x": "balanced accuracy of probe on x",
    "probe_codes": "balanced accuracy of probe on codes",
    "probe_reconstruction": "balanced accuracy of probe on reconstruction",
}


class ComparisonDisplay:
    """A measure of several dictionaries or layers, with intervals.

    It is recommended to use :meth:`from_runs`. All parameters are stored as attributes.

    Parameters
    ----------
    mean, low, high : array-like of shape (n_names,)
        Mean of each, and the ends of its interval.
    name : list of str, default=None
        What is compared, from top to bottom; None numbers it.
    null_high : array-like of shape (n_names,), default=None
        Upper edge of what chance achieves, for each; NaN for none.
    measure : str, default="cosine"
        Name of the measure, for the label of the x-axis.
    by : str, default="dictionary"
        What is compared, for the label of the y-axis.

    Attributes
    ----------
    points_ : matplotlib Line2D
        The means.
    intervals_ : matplotlib LineCollection
        The intervals.
    null_points_ : matplotlib Line2D or None
        The marks of chance.
    ax_ : matplotlib Axes
        Axes with the points.
    figure_ : matplotlib Figure
        Figure with the points.

    See Also
    --------
    skdict.evaluation.compare_dictionaries : Makes the runs.
    skdict.evaluation.sweep_layers : Makes the runs of several layers.
    skdict.evaluation.summary_table : The same figures as a table.

    Notes
    -----
    The intervals resample runs: they say how much a mean varies between seeds and folds
    of the same rows, not how far it may be off on new rows.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skdict import ICFL
    >>> from skdict.evaluation import baseline_dictionaries, compare_dictionaries
    >>> from skdict.inspection import ComparisonDisplay
    >>> X, y = load_digits(return_X_y=True)
    >>> baselines = baseline_dictionaries(32, 4)
    >>> runs = compare_dictionaries(
    ...     {"ICFL": ICFL(32, 4, max_iter=5), "PCA": baselines["PCA"]},
    ...     X[:300], cv=2, seeds=2,
    ... )
    >>> display = ComparisonDisplay.from_runs(runs)
    >>> display.name
    ['ICFL', 'PCA']
    """

    def __init__(
        self,
        *,
        mean: Any,
        low: Any,
        high: Any,
        name: Any = None,
        null_high: Any = None,
        measure: str = "cosine",
        by: str = "dictionary",
    ) -> None:
        self.mean = mean
        self.low = low
        self.high = high
        self.name = name
        self.null_high = null_high
        self.measure = measure
        self.by = by

    def plot(self, ax: Any = None, **kwargs: Any) -> Self:
        """Draw a point with its interval for each name.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.
        **kwargs : dict
            Further keyword arguments of matplotlib's ``plot`` for the points.

        Returns
        -------
        display : ComparisonDisplay
            The object itself.

        Raises
        ------
        ValueError
            If the lengths differ.
        """
        names = range(len(self.mean)) if self.name is None else self.name
        names = [str(name) for name in names]
        check_param_lengths(
            required={
                "self.name": names,
                "self.mean": list(self.mean),
                "self.low": list(self.low),
                "self.high": list(self.high),
            },
            optional={
                "self.null_high": None
                if self.null_high is None
                else list(self.null_high)
            },
            class_name=type(self).__name__,
        )
        height = max(1.2, 0.6 + 0.22 * len(names))
        with drawing_on(ax, f"{type(self).__name__}.plot", height=height) as ax:
            places = np.arange(len(names))
            style = {"marker": "o", "linestyle": "none"}
            (self.points_,) = ax.plot(
                self.mean, places, **validate_style_kwargs(style, kwargs)
            )
            self.intervals_ = ax.hlines(
                places, self.low, self.high, color=self.points_.get_color()
            )
            self.null_points_ = None
            if self.null_high is not None:
                (self.null_points_,) = ax.plot(
                    self.null_high,
                    places,
                    marker="|",
                    markersize=9,
                    linestyle="none",
                    color=GREY,
                    label="null, 95 %",
                )
            ax.set_yticks(places, [in_lines(plain(name), 24) for name in names])
            label = plain(self.measure.replace("_", " "))
            label = in_lines(_LABELS.get(self.measure, label), 24)
            ax.set(ylim=(len(names) - 0.5, -0.5), xlabel=label)
            label_y(ax, plain(self.by))
            if self.null_high is not None:
                legend_above(ax, height=height)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    @classmethod
    def from_runs(
        cls,
        runs: pd.DataFrame,
        *,
        measure: str = "cosine",
        by: str = "dictionary",
        confidence_level: float = 0.95,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw a measure of the runs of a comparison.

        Parameters
        ----------
        runs : DataFrame
            One row for each run, of
            :func:`~skdict.evaluation.compare_dictionaries`,
            :func:`~skdict.evaluation.sweep_layers` or another table with the columns
            `by` and `measure`. Their order is kept.
        measure : str, default="cosine"
            Column to draw. If there is a column of the same name that ends in `_null`,
            its means are drawn as well.
        by : str, default="dictionary"
            Column that names what is compared, for instance "layer".
        confidence_level : float, default=0.95
            Confidence level of the intervals, as in
            :func:`~skdict.evaluation.summary_table`.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure.
        **kwargs : dict
            Passed to :meth:`plot`.

        Returns
        -------
        display : ComparisonDisplay
            The object that is drawn.

        Raises
        ------
        ValueError
            If `runs` has no rows, or lacks a column.
        """
        check_runs(runs, [by, measure])
        groups = runs.groupby(by, sort=False, observed=True)
        intervals = [
            mean_interval(figures.to_numpy(float), confidence_level)
            for _, figures in groups[measure]
        ]
        null = f"{measure}_null"
        display = cls(
            name=[str(name) for name, _ in groups],
            mean=groups[measure].mean().to_numpy(),
            low=np.array([low for low, _ in intervals]),
            high=np.array([high for _, high in intervals]),
            null_high=groups[null].mean().to_numpy() if null in runs else None,
            measure=measure,
            by=by,
        )
        return display.plot(ax, **kwargs)
