"""Probes on few features against the number of features."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd

from skdict._utils.sklearn_private import (
    check_matplotlib_support,
    check_param_lengths,
    validate_style_kwargs,
)

from ._curves import draw_band, draw_curve, draw_references, set_ticks
from ._style import as_list, drawing_on, label_y, legend_above, plain

_LABELS = {
    "balanced_accuracy": "balanced accuracy of probe",
    "auroc": "area under ROC curve of probe",
}
_LINES = {"codes": "all features", "x": "probe on x"}


class SparseProbingDisplay:
    """Score of a probe on the best features against their number.

    It is recommended to use :meth:`from_runs`. All parameters are stored as attributes.

    Parameters
    ----------
    n_features : ndarray of shape (n_ticks,) or list of them
        Numbers of best features, for one curve or several.
    mean : ndarray of shape (n_ticks,) or list of them
        Mean score over folds, for each number.
    std : ndarray of shape (n_ticks,) or list of them, default=None
        Standard deviation over folds, for the bands. None draws no bands.
    null_high : ndarray of shape (n_ticks,) or list of them, default=None
        Upper edge of the null, as a thin line. None draws none.
    measure : str, default="balanced_accuracy"
        Name of the score, for the label of the y-axis.
    name : str or list of str, default=None
        Name of each curve in the legend.
    references : dict of str to float, default=None
        Values to compare the curves with, by name, as horizontal lines.

    Attributes
    ----------
    line_ : matplotlib Line2D or list of them
        The curves; a list if there are several.
    bands_ : list of matplotlib PolyCollection
        Mean ± standard deviation, for the curves that have one.
    null_lines_ : list of matplotlib Line2D
        The nulls, for the curves that have one.
    reference_lines_ : list of matplotlib Line2D
        The references.
    ax_ : matplotlib Axes
        Axes with the curves.
    figure_ : matplotlib Figure
        Figure with the curves.

    See Also
    --------
    skdict.evaluation.sparse_probing : Makes the table.
    SparsityCurveDisplay : Probes on all features, against the k of the codes.

    Examples
    --------
    >>> import numpy as np
    >>> from skdict.evaluation import sparse_probing
    >>> from skdict.inspection import SparseProbingDisplay
    >>> rng = np.random.default_rng(0)
    >>> y = np.tile(["a", "b"], 60)
    >>> codes = rng.random((120, 30))
    >>> codes[:, 7] += y == "a"
    >>> runs = sparse_probing(
    ...     codes, y, n_features=[1, 5, 20], cv=2, n_permutations=3, random_state=0
    ... )
    >>> display = SparseProbingDisplay.from_runs(runs)
    >>> bool((display.mean > display.null_high).all())
    True
    """

    def __init__(
        self,
        *,
        n_features: Any,
        mean: Any,
        std: Any = None,
        null_high: Any = None,
        measure: str = "balanced_accuracy",
        name: Any = None,
        references: dict[str, float] | None = None,
    ) -> None:
        self.n_features = n_features
        self.mean = mean
        self.std = std
        self.null_high = null_high
        self.measure = measure
        self.name = name
        self.references = references

    def plot(
        self,
        ax: Any = None,
        *,
        name: Any = None,
        band_kwargs: dict[str, Any] | None = None,
        null_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure as wide as a journal column.
        name : str or list of str, default=None
            Name of each curve in the legend; None means those of the constructor.
        band_kwargs : dict, default=None
            Arguments for matplotlib's `fill_between`, which draws the bands.
        null_kwargs : dict, default=None
            Arguments for matplotlib's `plot`, which draws the nulls.
        **kwargs : dict
            Arguments for matplotlib's `plot`, which draws the curves.

        Returns
        -------
        display : SparseProbingDisplay
            The object itself.

        Raises
        ------
        ValueError
            If the numbers of curves differ.
        """
        sizes, means = as_list(self.n_features), as_list(self.mean)
        stds: list[Any] = [None] * len(sizes)
        if self.std is not None:
            stds = as_list(self.std)
        nulls: list[Any] = [None] * len(sizes)
        if self.null_high is not None:
            nulls = as_list(self.null_high)
        names = self.name if name is None else name
        names = names if isinstance(names, list) else [names] * len(sizes)
        check_param_lengths(
            required={"self.n_features": sizes, "self.mean": means},
            optional={
                "self.std": stds,
                "self.null_high": nulls,
                "'name' (or self.name)": names,
            },
            class_name=type(self).__name__,
        )
        with drawing_on(ax, f"{type(self).__name__}.plot") as ax:
            lines, self.bands_ = [], []
            self.null_lines_: list[Any] = []
            curves = zip(sizes, means, stds, nulls, names, strict=True)
            for x, mean, std, null, label in curves:
                lines.append(draw_curve(ax, x, mean, label, kwargs))
                if std is not None:
                    band = draw_band(ax, lines[-1], mean, std, band_kwargs)
                    self.bands_.append(band)
                if null is not None:
                    style = {"color": lines[-1].get_color()}
                    style |= {"linewidth": 0.7, "linestyle": ":"}
                    style["label"] = "null, 95 %" if len(sizes) == 1 else None
                    style = validate_style_kwargs(style, null_kwargs or {})
                    self.null_lines_ += ax.plot(x, null, **style)
            self.reference_lines_ = draw_references(ax, self.references or {})
            ax.set(xscale="log", xlabel="best features read by the probe")
            measure = plain(self.measure.replace("_", " "))
            label_y(ax, _LABELS.get(self.measure, measure))
            set_ticks(ax)
            legend_above(ax)
        self.line_ = lines if isinstance(self.n_features, list) else lines[0]
        self.ax_, self.figure_ = ax, ax.figure
        return self

    @classmethod
    def from_runs(
        cls,
        runs: pd.DataFrame,
        *,
        measure: str = "balanced_accuracy",
        by: str = "dictionary",
        references: dict[str, float] | None = None,
        name: str | None = None,
        ax: Any = None,
        band_kwargs: dict[str, Any] | None = None,
        null_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Draw a table of probes.

        Parameters
        ----------
        runs : DataFrame
            From :func:`~skdict.evaluation.sparse_probing`. For several dictionaries,
            the tables with a column `dictionary` added, concatenated.
        measure : {"balanced_accuracy", "auroc"}, default="balanced_accuracy"
            Score of which the mean over folds is drawn, with a band of one standard
            deviation.
        by : str, default="dictionary"
            Column that names the curves, if there is one of this name.
        references : dict of str to float, default=None
            Values to compare with, as horizontal lines. None means the probe on x, and
            for a single curve that on all features; ``{}`` leaves them out.
        name : str, default=None
            Name of a single curve.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure as wide as a journal column.
        band_kwargs : dict, default=None
            Arguments for matplotlib's `fill_between`, which draws the bands.
        null_kwargs : dict, default=None
            Arguments for matplotlib's `plot`, which draws the nulls.
        **kwargs : dict
            Arguments for matplotlib's `plot`, which draws the curves.

        Returns
        -------
        display : SparseProbingDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If `runs` is not a DataFrame.
        ValueError
            If a column is missing or if there are no probes on best features.
        """
        check_matplotlib_support(f"{cls.__name__}.from_runs")
        if not isinstance(runs, pd.DataFrame):
            raise TypeError(f"runs must be a DataFrame, got {type(runs).__name__}.")
        needed = ("input", "n_features", measure)
        lacking = [column for column in needed if column not in runs]
        if lacking:
            raise ValueError(f"runs lacks the columns {lacking}; it has {[*runs]}.")
        best = runs[runs["input"] == "best features"]
        if best.empty:
            raise ValueError("There are no probes on best features to draw.")
        several = by in runs
        named = (
            list(best.groupby(by, sort=False, observed=True))
            if several
            else [(name, best)]
        )
        null = f"{measure}_null"
        with_null = null in best and best[null].notna().all()
        sizes, means, stds, nulls = [], [], [], []
        for _, own in named:
            of_sizes = own.groupby("n_features")
            sizes.append(np.array([*of_sizes.groups]))
            means.append(of_sizes[measure].mean().to_numpy())
            stds.append(of_sizes[measure].std(ddof=0).to_numpy())
            if with_null:
                nulls.append(of_sizes[null].mean().to_numpy())
        if references is None:
            of_inputs = runs.groupby("input", observed=True)[measure].mean()
            wanted = ("x",) if len(named) > 1 else tuple(_LINES)
            references = {
                _LINES[line]: float(of_inputs[line])
                for line in wanted
                if line in of_inputs
            }
        display = cls(
            n_features=sizes if several else sizes[0],
            mean=means if several else means[0],
            std=stds if several else stds[0],
            null_high=(nulls if several else nulls[0]) if with_null else None,
            measure=measure,
            name=[str(own) for own, _ in named] if several else name,
            references=references,
        )
        return display.plot(
            ax, band_kwargs=band_kwargs, null_kwargs=null_kwargs, **kwargs
        )
