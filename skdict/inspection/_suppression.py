"""Predictability of batches and labels, with and without batch features."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd

from skdict._utils.sklearn_private import check_matplotlib_support

from ._style import BLUE, ONCE, VERMILION, drawing_on, ink, label_y, legend_above
from ._tables import check_runs

_REMOVED = {
    "none": "none",
    "random features": "random",
    "batch features": "of the batch",
}
_PROBES = {"batch": (VERMILION, "D"), "y": (BLUE, "o")}


class SuppressionDisplay:
    """What batch and label probes lose if features are taken out.

    It is recommended to use :meth:`from_runs`. All parameters are stored as attributes.

    Parameters
    ----------
    runs : DataFrame
        Table of :func:`~skdict.concepts.suppression_report`.

    Attributes
    ----------
    lines_ : dict of str to matplotlib Line2D
        Means over folds of the probes "batch" and "y".
    points_ : dict of str to matplotlib Line2D
        The single folds; random draws are averaged in each fold.
    chance_lines_ : dict of str to matplotlib Line2D
        Balanced accuracy of a probe that knows nothing.
    ax_ : matplotlib Axes
        Axes with the figure.
    figure_ : matplotlib Figure
        Figure.

    See Also
    --------
    skdict.concepts.suppression_report : Makes the table.

    Notes
    -----
    Features of the batch matter if the batch's line falls further at the right than in
    the middle. The label's line should not.

    Examples
    --------
    >>> import numpy as np
    >>> from skdict.concepts import suppression_report
    >>> from skdict.inspection import SuppressionDisplay
    >>> rng = np.random.default_rng(0)
    >>> y, batch = rng.integers(0, 2, 200), rng.integers(0, 3, 200)
    >>> codes = rng.exponential(size=(200, 6))
    >>> codes[:, 3] += 2 * (batch == 2)
    >>> runs = suppression_report(
    ...     codes, y, batch=batch, features=[3], cv=2, n_random=2, random_state=0
    ... )
    >>> display = SuppressionDisplay.from_runs(runs)
    >>> display.lines_["batch"].get_ydata().round(1).tolist()
    [0.6, 0.6, 0.4]
    """

    def __init__(self, *, runs: pd.DataFrame) -> None:
        self.runs = runs

    def plot(self, ax: Any = None, **kwargs: Any) -> Self:
        """Draw the probes.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure as wide as a journal column.
        **kwargs : dict
            Arguments for matplotlib's `plot`, which draws the means.

        Returns
        -------
        display : SuppressionDisplay
            The object itself.

        Raises
        ------
        TypeError
            If `runs` is not a DataFrame.
        ValueError
            If there are no runs, or if a column or a value is missing.
        """
        probes = [f"probe_{name}" for name in _PROBES]
        chances = [f"chance_{name}" for name in _PROBES]
        runs = check_runs(self.runs, ["fold", "removed", *probes, *chances])
        kinds = [kind for kind in _REMOVED if (runs["removed"] == kind).any()]
        by_fold = runs.groupby(["removed", "fold"], observed=True)[probes].mean()
        with drawing_on(ax, f"{type(self).__name__}.plot") as ax:
            self.lines_, self.points_, self.chance_lines_ = {}, {}, {}
            for i, (name, (colour, marker)) in enumerate(_PROBES.items()):
                folds = [by_fold.loc[kind, f"probe_{name}"] for kind in kinds]
                # The probes stand side by side.
                places = np.arange(len(kinds)) + 0.12 * (i - 0.5)
                style = {
                    "label": "batch" if name == "batch" else "label",
                    "color": colour,
                    "marker": marker,
                } | kwargs
                means = [np.mean(values) for values in folds]
                (self.lines_[name],) = ax.plot(places, means, **style)
                (self.points_[name],) = ax.plot(
                    np.repeat(places, [len(values) for values in folds]),
                    np.concatenate(folds),
                    linestyle="none",
                    marker=marker,
                    color=self.lines_[name].get_color(),
                    alpha=0.3,
                    markersize=3,
                )
                self.chance_lines_[name] = ax.axhline(
                    runs[f"chance_{name}"].mean(),
                    color=self.lines_[name].get_color(),
                    linestyle=":",
                    linewidth=1,
                    zorder=1.5,
                )
            (dots,) = ax.plot([], [], ":", color=ink(ax), linewidth=1, label="chance")
            dots.set_gid(ONCE)
            ax.set_xticks(range(len(kinds)), [_REMOVED[kind] for kind in kinds])
            ax.set_xlim(-0.4, len(kinds) - 0.6)
            ax.set_ylim(0, 1.02)
            ax.set_xlabel("features that are taken out")
            label_y(ax, "balanced accuracy of probe")
            legend_above(ax)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    @classmethod
    def from_runs(cls, runs: pd.DataFrame, *, ax: Any = None, **kwargs: Any) -> Self:
        """Draw a table of runs.

        Parameters
        ----------
        runs : DataFrame
            Table of :func:`~skdict.concepts.suppression_report`.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure as wide as a journal column.
        **kwargs : dict
            Arguments for matplotlib's `plot`, which draws the means.

        Returns
        -------
        display : SuppressionDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If `runs` is not a DataFrame.
        ValueError
            If there are no runs, or if a column or a value is missing.
        """
        check_matplotlib_support(f"{cls.__name__}.from_runs")
        return cls(runs=runs).plot(ax, **kwargs)
