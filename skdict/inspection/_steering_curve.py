"""Where controls move if the features of a treatment are added."""

from __future__ import annotations

from typing import Any, Self

import pandas as pd

from skdict._utils.constraints import check_name
from skdict._utils.sklearn_private import check_matplotlib_support

from ._style import BLUE, GREY, ONCE, drawing_on, label_y, legend_above, plain
from ._tables import check_runs

_LABELS = {
    "target_fraction": "fraction of controls nearest to the treatment",
    "control_fraction": "fraction of controls nearest to controls",
    "other_fraction": "fraction of controls nearest to another treatment",
    "progress": "way to the treatment",
    "cosine_target": "cosine with the treatment",
    "cosine_other": "cosine with the nearest other treatment",
}


class SteeringCurveDisplay:
    """Where controls move against the size of the step.

    It is recommended to use :meth:`from_runs`. All parameters are stored as attributes.

    Parameters
    ----------
    runs : DataFrame
        Table of :func:`~skdict.concepts.steering_curve`.
    measure : str, default="target_fraction"
        Column of the table that is drawn, as the mean over folds.
    name : str, default=None
        Name of the treatment in the legend.

    Attributes
    ----------
    line_ : matplotlib Line2D
        The features of the treatment.
    reference_line_ : matplotlib Line2D or None
        The whole difference of the means; None if the table lacks it.
    null_band_ : matplotlib PolyCollection or None
        Central 90 % of the random sets of features; None if there are none.
    ax_ : matplotlib Axes
        Axes with the curves.
    figure_ : matplotlib Figure
        Figure with the curves.

    See Also
    --------
    skdict.concepts.steering_curve : Makes the table.

    Examples
    --------
    >>> import numpy as np
    >>> from skdict.concepts import steering_curve
    >>> from skdict.inspection import SteeringCurveDisplay
    >>> rng = np.random.default_rng(0)
    >>> y = rng.choice(["control", "A", "B"], 300)
    >>> codes = rng.exponential(size=(300, 30))
    >>> codes[y == "A", :3] += 2
    >>> runs = steering_curve(
    ...     codes, y, "A", control_label="control", n_features=3, cv=2, random_state=0
    ... )
    >>> display = SteeringCurveDisplay.from_runs(runs, name="A")
    >>> rising = display.line_.get_ydata()
    >>> bool(rising[-1] > rising[0] + 0.5)
    True
    """

    def __init__(
        self,
        *,
        runs: pd.DataFrame,
        measure: str = "target_fraction",
        name: str | None = None,
    ) -> None:
        self.runs = runs
        self.measure = measure
        self.name = name

    def plot(
        self,
        ax: Any = None,
        *,
        name: str | None = None,
        null_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure as wide as a journal column.
        name : str, default=None
            Name of the treatment in the legend; None means that of the constructor.
        null_kwargs : dict, default=None
            Arguments for matplotlib's `fill_between`, which draws the null.
        **kwargs : dict
            Arguments for matplotlib's `plot`, which draws the curve.

        Returns
        -------
        display : SteeringCurveDisplay
            The object itself.

        Raises
        ------
        TypeError
            If `runs` is not a DataFrame.
        ValueError
            If there are no runs, or if a column or a value is missing.
        """
        name = self.name if name is None else name
        check_name(name)
        runs = check_runs(self.runs, ["added", "draw", "amount", self.measure])
        means = runs.groupby(["added", "amount", "draw"], observed=True)[
            self.measure
        ].mean()
        curves = {kind: means[kind] for kind in means.index.unique(0)}
        own = curves["treatment features"].groupby("amount").mean()
        with drawing_on(ax, f"{type(self).__name__}.plot") as ax:
            label = f"features of {plain(name)}" if name else "treatment features"
            style = {"color": BLUE, "label": label, "marker": "o"} | kwargs
            (self.line_,) = ax.plot(own.index, own, **style)
            self.reference_line_ = self.null_band_ = None
            if "all features" in curves:
                whole = curves["all features"].groupby("amount").mean()
                (self.reference_line_,) = ax.plot(
                    whole.index,
                    whole,
                    color=GREY,
                    linestyle="--",
                    linewidth=1,
                    label="all features",
                    gid=ONCE,
                )
            if "random features" in curves:
                by_amount = curves["random features"].groupby("amount")
                low, high = by_amount.quantile(0.05), by_amount.quantile(0.95)
                style = {
                    "color": GREY,
                    "alpha": 0.25,
                    "linewidth": 0,
                    "label": "random features (central 90 %)",
                    "gid": ONCE,
                } | (null_kwargs or {})
                self.null_band_ = ax.fill_between(low.index, low, high, **style)
            ax.set_xlabel("step, in differences of means")
            label_y(ax, _LABELS.get(self.measure, plain(self.measure)))
            legend_above(ax)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    @classmethod
    def from_runs(
        cls,
        runs: pd.DataFrame,
        *,
        measure: str = "target_fraction",
        name: str | None = None,
        ax: Any = None,
        null_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Draw a table of runs.

        Parameters
        ----------
        runs : DataFrame
            Table of :func:`~skdict.concepts.steering_curve`.
        measure : str, default="target_fraction"
            Column of the table that is drawn, as the mean over folds.
        name : str, default=None
            Name of the treatment in the legend.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure as wide as a journal column.
        null_kwargs : dict, default=None
            Arguments for matplotlib's `fill_between`, which draws the null.
        **kwargs : dict
            Arguments for matplotlib's `plot`, which draws the curve.

        Returns
        -------
        display : SteeringCurveDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If `runs` is not a DataFrame.
        ValueError
            If there are no runs, or if a column or a value is missing.
        """
        check_matplotlib_support(f"{cls.__name__}.from_runs")
        display = cls(runs=runs, measure=measure, name=name)
        return display.plot(ax, null_kwargs=null_kwargs, **kwargs)
