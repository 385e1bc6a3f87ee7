"""Quality of reconstruction or of codes against the number of active features."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import is_classifier
from sklearn.model_selection import StratifiedGroupKFold, check_cv, cross_val_score

from skdict._utils.constraints import check_name
from skdict._utils.labels import as_labels
from skdict._utils.sklearn_private import (
    check_matplotlib_support,
    check_param_lengths,
    num_samples,
)
from skdict._utils.steps import encode
from skdict._utils.types import Data
from skdict.metrics import (
    explained_variance,
    make_linear_probe,
    reconstruction_cosine,
)

from ._curves import draw_band, draw_curve, draw_references, set_ticks
from ._style import as_list, drawing_on, label_y, legend_above, plain
from .estimators import last_step, name_of, rows_before, shorter

_LABELS = {
    "cosine": "cosine of x and reconstruction",
    "explained_variance": "explained variance",
    "probe_codes": "balanced accuracy of probe",
}


class SparsityCurveDisplay:
    """Cosine, explained variance or probe accuracy against k.

    It is recommended to use :meth:`from_estimator` or :meth:`from_runs`. All
    parameters are stored as attributes.

    Parameters
    ----------
    k : ndarray of shape (n_ticks,) or list of them
        Numbers of active features, for one curve or several.
    mean : ndarray of shape (n_ticks,) or list of them
        Mean of the measure over folds or runs, for each number.
    std : ndarray of shape (n_ticks,) or list of them, default=None
        Standard deviation, for the bands. None draws no bands.
    measure : str, default="cosine"
        Name of the measure, for the label of the y-axis.
    name : str or list of str, default=None
        Name of each curve in the legend.
    references : dict of str to float, default=None
        Values to compare the curves with, by name, such as that of the probe on x, and
        chance. They become horizontal lines.

    Attributes
    ----------
    line_ : matplotlib Line2D or list of them
        The curves; a list if there are several.
    bands_ : list of matplotlib PolyCollection
        Mean ± standard deviation, for the curves that have one.
    reference_lines_ : list of matplotlib Line2D
        The references.
    ax_ : matplotlib Axes
        Axes with the curves.
    figure_ : matplotlib Figure
        Figure with the curves.

    See Also
    --------
    skdict.Truncator : Shorter codes from one fit.
    skdict.evaluation.compare_dictionaries : Runs over seeds and folds.

    Notes
    -----
    :meth:`from_estimator` shortens the codes of one dictionary, which was trained for
    the largest `k`. Dictionaries that are trained for a smaller `k` are better at that
    `k`; draw those by :meth:`from_runs`.

    References do not depend on `k`. "probe on x" is the same probe on the rows
    themselves, scored on the same folds. "chance" is the balanced accuracy of a probe
    that knows nothing, one over the number of classes.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skdict import ICFL
    >>> from skdict.inspection import SparsityCurveDisplay
    >>> X, _ = load_digits(return_X_y=True)
    >>> dictionary = ICFL(64, 8, max_iter=3, random_state=0).fit(X[:1000])
    >>> display = SparsityCurveDisplay.from_estimator(
    ...     dictionary, X[1000:], k=[1, 2, 4, 8]
    ... )
    >>> bool((display.mean[1:] > display.mean[:-1]).all())
    True
    """

    def __init__(
        self,
        *,
        k: Any,
        mean: Any,
        std: Any = None,
        measure: str = "cosine",
        name: Any = None,
        references: dict[str, float] | None = None,
    ) -> None:
        self.k = k
        self.mean = mean
        self.std = std
        self.measure = measure
        self.name = name
        self.references = references

    def plot(
        self,
        ax: Any = None,
        *,
        name: Any = None,
        band_kwargs: dict[str, Any] | None = None,
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
        **kwargs : dict
            Arguments for matplotlib's `plot`, which draws the curves.

        Returns
        -------
        display : SparsityCurveDisplay
            The object itself.

        Raises
        ------
        ValueError
            If the numbers of curves in `k`, `mean`, `std` and `name` differ.
        """
        k, means = as_list(self.k), as_list(self.mean)
        stds = [None] * len(k) if self.std is None else as_list(self.std)
        names = self.name if name is None else name
        names = names if isinstance(names, list) else [names] * len(k)
        check_param_lengths(
            required={"self.k": k, "self.mean": means},
            optional={"self.std": stds, "'name' (or self.name)": names},
            class_name=type(self).__name__,
        )
        with drawing_on(ax, f"{type(self).__name__}.plot") as ax:
            lines, self.bands_ = [], []
            for x, mean, std, label in zip(k, means, stds, names, strict=True):
                lines.append(draw_curve(ax, x, mean, label, kwargs))
                if std is not None:
                    band = draw_band(ax, lines[-1], mean, std, band_kwargs)
                    self.bands_.append(band)
            self.reference_lines_ = draw_references(ax, self.references or {})
            ax.set(xscale="log", xlabel="active features, k")
            measure = plain(self.measure.replace("_", " "))
            label_y(ax, _LABELS.get(self.measure, measure))
            set_ticks(ax)
            legend_above(ax)
        self.line_ = lines if isinstance(self.k, list) else lines[0]
        self.ax_, self.figure_ = ax, ax.figure
        return self

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Data,
        y: Data | None = None,
        *,
        k: Data,
        measure: str = "cosine",
        cv: Any = None,
        groups: Data | None = None,
        probe: Any = None,
        references: dict[str, float] | None = None,
        name: str | None = None,
        ax: Any = None,
        band_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Shorten the codes of a fitted dictionary and draw the measure.

        Parameters
        ----------
        estimator : estimator instance
            Fitted dictionary, or any other transformer with `inverse_transform`, or a
            fitted :class:`~sklearn.pipeline.Pipeline` whose last step is one. It is
            not fitted again.
        X : array-like of shape (n_samples, n_features)
            Rows, preferably not those on which the dictionary was trained. The
            reconstruction is compared with the rows as they reach the dictionary.
        y : array-like of shape (n_samples,), default=None
            Labels, for ``measure="probe_codes"``.
        k : array-like of int
            Numbers of active features, up to the one for which the dictionary was
            fitted.
        measure : {"cosine", "explained_variance", "probe_codes"}, default="cosine"
            As in :func:`~skdict.evaluation.compare_dictionaries`. The probe is fitted
            and scored by cross-validation on the codes of `X`, with bands of one
            standard deviation over the folds.
        cv : int, splitter or iterable, default=None
            Folds of the probe. A number means
            :class:`~sklearn.model_selection.StratifiedKFold`, or
            :class:`~sklearn.model_selection.StratifiedGroupKFold` if `groups` is
            given; None means five folds.
        groups : array-like of shape (n_samples,), default=None
            Groups that must not be split between the rows that the probe is fitted to
            and those that it is scored on, for instance the image of each row.
        probe : classifier, default=None
            None means :func:`~skdict.metrics.make_linear_probe`.
        references : dict of str to float, default=None
            Values to compare with, as horizontal lines. For a probe, None means the
            same probe on x, and chance; ``{}`` leaves them out.
        name : str, default=None
            Name of the curve; None means that of the dictionary's class.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure as wide as a journal column.
        band_kwargs : dict, default=None
            Arguments for matplotlib's `fill_between`, which draws the bands.
        **kwargs : dict
            Arguments for matplotlib's `plot`, which draws the curves.

        Returns
        -------
        display : SparsityCurveDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If `measure` is unknown, if it needs labels and there are none, or if a `k`
            is not a positive integer or larger than the dictionary's.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        check_name(name)
        if measure not in _LABELS:
            raise ValueError(
                f"measure must be one of {sorted(_LABELS)}, got {measure!r}."
            )
        if measure == "probe_codes" and y is None:
            raise ValueError("A probe needs labels, but y is None.")
        labels: Any = None if y is None else as_labels(y, "y", num_samples(X))
        if groups is not None:
            groups = as_labels(groups, "groups", num_samples(X))
        sizes = _check_sizes(k)
        rows = rows_before(estimator, X)
        if measure == "probe_codes":
            score = _make_probe_score(probe, rows, labels, cv, groups)
            if references is None:
                references = {
                    "probe on x": np.mean(score(rows)),
                    "chance": 1 / len(np.unique(labels)),
                }
        scores: list[Any] = []
        for size in sizes:
            dictionary = shorter(last_step(estimator), int(size))
            codes = encode(dictionary, rows)
            if measure == "probe_codes":
                scores.append(score(codes))
                continue
            X_hat = dictionary.inverse_transform(codes)
            if measure == "cosine":
                scores.append([reconstruction_cosine(rows, X_hat)])
            else:
                scores.append([explained_variance(rows, X_hat)])
        std = np.std(scores, axis=1) if measure == "probe_codes" else None
        display = cls(
            k=sizes,
            mean=np.mean(scores, axis=1),
            std=std,
            measure=measure,
            name=name_of(estimator, name),
            references=references,
        )
        return display.plot(ax, band_kwargs=band_kwargs, **kwargs)

    @classmethod
    def from_runs(
        cls,
        runs: pd.DataFrame,
        *,
        measure: str = "cosine",
        k: str = "k",
        by: str = "dictionary",
        references: dict[str, float] | None = None,
        ax: Any = None,
        band_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Draw a table of runs at several k.

        Parameters
        ----------
        runs : DataFrame
            One row for each run, with its `k`, its dictionary and the measure: what
            :func:`~skdict.evaluation.compare_dictionaries` returns for each `k`, with
            a column `k` added, concatenated.
        measure : str, default="cosine"
            Column of which the mean over runs is drawn, with a band of one standard
            deviation.
        k : str, default="k"
            Column with the number of active features.
        by : str, default="dictionary"
            Column that names the curves.
        references : dict of str to float, default=None
            Values to compare with, as horizontal lines. For a probe, None means the
            mean of the column "probe_x", if it is the same for all curves; ``{}``
            leaves it out.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure as wide as a journal column.
        band_kwargs : dict, default=None
            Arguments for matplotlib's `fill_between`, which draws the bands.
        **kwargs : dict
            Arguments for matplotlib's `plot`, which draws the curves.

        Returns
        -------
        display : SparsityCurveDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If `runs` is not a DataFrame.
        ValueError
            If there are no runs, if a column is missing, or if a run has no value of
            the measure.
        """
        check_matplotlib_support(f"{cls.__name__}.from_runs")
        if not isinstance(runs, pd.DataFrame):
            raise TypeError(
                f"runs must be a DataFrame, got {type(runs).__name__}. pandas.concat "
                "makes one of several."
            )
        lacking = [column for column in (measure, k, by) if column not in runs]
        if lacking:
            raise ValueError(f"runs lacks the columns {lacking}; it has {[*runs]}.")
        if runs.empty:
            raise ValueError("There are no runs to draw.")
        without = np.flatnonzero(runs[measure].isna())
        if without.size:
            raise ValueError(
                f"{without.size} of {len(runs)} runs have no {measure!r} (the first is "
                f"in row {without[0]})."
            )
        names, sizes, means, stds = [], [], [], []
        for name, own in runs.groupby(by, sort=False):
            names.append(name)
            sizes.append(_check_sizes(np.unique(own[k].to_list())))
            by_size = own.groupby(k)[measure]
            means.append(by_size.mean().to_numpy())
            stds.append(by_size.std(ddof=0).to_numpy())
        if references is None and measure.startswith("probe_"):
            references = _probe_on_x(runs, by)
        display = cls(
            k=sizes,
            mean=means,
            std=stds,
            measure=measure,
            name=[str(name) for name in names],
            references=references,
        )
        return display.plot(ax, band_kwargs=band_kwargs, **kwargs)


def _make_probe_score(
    probe: Any, rows: Data, y: np.ndarray, cv: Any, groups: np.ndarray | None
) -> Callable[[Any], np.ndarray]:
    """Make a function from features of the rows to balanced accuracies of a probe."""
    probe = make_linear_probe() if probe is None else probe
    if groups is not None and (cv is None or isinstance(cv, Integral)):
        cv = StratifiedGroupKFold(5 if cv is None else cv)
    # List the folds once, because a splitter that shuffles would draw others each time.
    cv = check_cv(cv, y, classifier=is_classifier(probe))
    folds = list(cv.split(rows, y, groups))

    def score(features: Any) -> np.ndarray:
        return cross_val_score(
            probe, features, y, cv=folds, scoring="balanced_accuracy"
        )

    return score


def _probe_on_x(runs: pd.DataFrame, by: str) -> dict[str, float]:
    """Find the probe on x in a table of runs, if it is the same for all curves."""
    if "probe_x" not in runs or runs["probe_x"].isna().any():
        return {}
    means = runs.groupby(by, sort=False)["probe_x"].mean().to_numpy()
    return {"probe on x": means[0]} if np.ptp(means) < 1e-9 else {}


def _check_sizes(k: Data) -> np.ndarray:
    sizes = np.asarray(k)
    whole = sizes.dtype.kind in "iuf" and (sizes == np.floor(sizes)).all()
    # np.asarray turns True among numbers into 1.
    whole = whole and not any(
        isinstance(size, bool | np.bool_) for size in np.atleast_1d(np.array(k, object))
    )
    if sizes.ndim != 1 or not sizes.size or not whole or sizes.min() < 1:
        raise ValueError(f"k must be a list of positive integers, got {k!r}.")
    return np.unique(sizes.astype(np.intp))
