"""What a number of active features buys."""

from itertools import cycle
from numbers import Integral

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
    validate_style_kwargs,
)
from skdict._utils.steps import encode
from skdict.metrics import (
    explained_variance,
    make_linear_probe,
    reconstruction_cosine,
)

from ._style import (
    ONCE,
    as_list,
    drawing_on,
    ink,
    label_y,
    legend_above,
    plain,
)
from .estimators import last_step, name_of, rows_before, shorter

_LABELS = {
    "cosine": "cosine of x and reconstruction",
    "explained_variance": "explained variance",
    "probe_codes": "balanced accuracy of probe",
}
_MARKERS = "osD^vP*"
# Of the references.
_DASHES = ((0, (4, 2)), (0, (1, 1.5)), (0, (4, 1.5, 1, 1.5)))


class SparsityCurveDisplay:
    """Cosine, explained variance or probe accuracy against k.

    It is recommended to use :meth:`from_estimator` or :meth:`from_runs`. All
    parameters are stored as attributes.

    Parameters
    ----------
    k : ndarray of shape (n_ticks,) or list of them
        Numbers of active features, for one curve or for several.
    mean : ndarray of shape (n_ticks,) or list of them
        The measure at each of them, the mean over folds or runs.
    std : ndarray of shape (n_ticks,) or list of them, default=None
        Its standard deviation, for the bands. None: no bands.
    measure : str, default="cosine"
        What is measured, for the label of the y-axis.
    name : str or list of str, default=None
        Name of each curve in the legend.
    references : dict of str to float, default=None
        Values to compare the curves with, by their names, such as that of the probe
        on x, and chance. They become horizontal lines.

    Attributes
    ----------
    line_ : matplotlib Line2D or list of them
        The curves; a list where there are several.
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
    the largest `k`. Dictionaries trained for each `k` by itself are better at the
    smaller ones; draw those by :meth:`from_runs`.

    A reference is no curve: it has no `k`. For a probe, "probe on x" is the same probe
    on the rows themselves, scored on the same folds, and "chance" is the balanced
    accuracy of a probe that knows nothing, one over the number of classes.

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
        self, *, k, mean, std=None, measure="cosine", name=None, references=None
    ):
        self.k = k
        self.mean = mean
        self.std = std
        self.measure = measure
        self.name = name
        self.references = references

    def plot(self, ax=None, *, name=None, band_kwargs=None, **kwargs):
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure as wide as a column.
        name : str or list of str, default=None
            Name of each curve in the legend; None: those of the constructor.
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
            If there are not as many values of `k`, means, deviations and names.
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
                # Continues where the curves that are already there end.
                marker = _MARKERS[len(_curves(ax)) % len(_MARKERS)]
                line_kwargs = {
                    "marker": marker,
                    "label": None if label is None else plain(label),
                }
                line_kwargs = validate_style_kwargs(line_kwargs, kwargs)
                (line,) = ax.plot(x, mean, **line_kwargs)
                lines.append(line)
                if std is not None:
                    style = {"color": line.get_color(), "alpha": 0.2, "linewidth": 0}
                    low, high = np.subtract(mean, std), np.add(mean, std)
                    band = ax.fill_between(x, low, high, **style | (band_kwargs or {}))
                    self.bands_.append(band)
            self.reference_lines_ = [
                ax.axhline(value, label=plain(reference), **style)
                for (reference, value), style in zip(
                    (self.references or {}).items(),
                    cycle(_reference_styles(ax)),
                    strict=False,
                )
            ]
            ax.set(xscale="log", xlabel="active features, k")
            measure = plain(self.measure.replace("_", " "))
            label_y(ax, _LABELS.get(self.measure, measure))
            _set_ticks(ax)
            legend_above(ax)
        self.line_ = lines if isinstance(self.k, list) else lines[0]
        self.ax_, self.figure_ = ax, ax.figure
        return self

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X,
        y=None,
        *,
        k,
        measure="cosine",
        cv=None,
        groups=None,
        probe=None,
        references=None,
        name=None,
        ax=None,
        band_kwargs=None,
        **kwargs,
    ):
        """Shorten the codes of a fitted dictionary and draw what is lost.

        Parameters
        ----------
        estimator : estimator instance
            Fitted dictionary, or any other transformer with `inverse_transform`, or a
            fitted :class:`~sklearn.pipeline.Pipeline` whose last step is one. Nothing
            is fitted anew.
        X : array-like of shape (n_samples, n_features)
            Rows, best those that the dictionary has not seen. They are compared with
            their reconstruction as they reach the dictionary.
        y : array-like of shape (n_samples,), default=None
            Labels, for ``measure="probe_codes"``.
        k : array-like of int
            Numbers of active features, up to the one that the dictionary was fitted
            for.
        measure : {"cosine", "explained_variance", "probe_codes"}, default="cosine"
            As in :func:`~skdict.evaluation.compare_dictionaries`. The probe is fitted
            and scored by cross-validation on the codes of `X`, with bands of one
            standard deviation over the folds.
        cv : int, splitter or iterable, default=None
            Folds of the probe. A number means
            :class:`~sklearn.model_selection.StratifiedKFold`, or
            :class:`~sklearn.model_selection.StratifiedGroupKFold` where `groups` is
            given; None means five folds.
        groups : array-like of shape (n_samples,), default=None
            What belongs together, for instance the image of each row: never split
            between the rows that the probe is fitted on and those that it is scored
            on.
        probe : classifier, default=None
            None means :func:`~skdict.metrics.make_linear_probe`.
        references : dict of str to float, default=None
            Values to compare with, as horizontal lines. None: for a probe, the same
            probe on x and chance; ``{}`` leaves them out.
        name : str, default=None
            Name of the curve; None: that of the dictionary's class.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure as wide as a column.
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
            is no positive integer or larger than the dictionary's.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        check_name(name)
        if measure not in _LABELS:
            raise ValueError(
                f"measure must be one of {sorted(_LABELS)}, got {measure!r}."
            )
        if measure == "probe_codes" and y is None:
            raise ValueError("A probe needs labels, but y is None.")
        if y is not None:
            y = as_labels(y, "y", num_samples(X))
        if groups is not None:
            groups = as_labels(groups, "groups", num_samples(X))
        sizes = _check_sizes(k)
        rows = rows_before(estimator, X)
        if measure == "probe_codes":
            score = _make_probe_score(probe, rows, y, cv, groups)
            if references is None:
                references = {
                    "probe on x": np.mean(score(rows)),
                    "chance": 1 / len(np.unique(y)),
                }
        scores = []
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
        runs,
        *,
        measure="cosine",
        k="k",
        by="dictionary",
        references=None,
        ax=None,
        band_kwargs=None,
        **kwargs,
    ):
        """Draw a table of runs at several k.

        Parameters
        ----------
        runs : DataFrame
            One row for each run, with its `k`, its dictionary and the measure: what
            :func:`~skdict.evaluation.compare_dictionaries` returns for each `k`, with
            a column `k` added, concatenated.
        measure : str, default="cosine"
            Column that is drawn: the mean over runs, with a band of one standard
            deviation.
        k : str, default="k"
            Column with the number of active features.
        by : str, default="dictionary"
            Column that names the curves.
        references : dict of str to float, default=None
            Values to compare with, as horizontal lines. None: for a probe the mean of
            the column "probe_x", where all curves have the same; ``{}`` leaves it
            out.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure as wide as a column.
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


def _make_probe_score(probe, rows, y, cv, groups):
    """Balanced accuracies of a probe on other features of the same rows."""
    probe = make_linear_probe() if probe is None else probe
    if groups is not None and (cv is None or isinstance(cv, Integral)):
        cv = StratifiedGroupKFold(5 if cv is None else cv)
    # The folds themselves: a splitter that shuffles would draw others every time.
    cv = check_cv(cv, y, classifier=is_classifier(probe))
    folds = list(cv.split(rows, y, groups))

    def score(features):
        return cross_val_score(
            probe, features, y, cv=folds, scoring="balanced_accuracy"
        )

    return score


def _probe_on_x(runs, by):
    """The reference in a table of runs; none where the curves have not the same."""
    if "probe_x" not in runs or runs["probe_x"].isna().any():
        return {}
    means = runs.groupby(by, sort=False)["probe_x"].mean().to_numpy()
    return {"probe on x": means[0]} if np.ptp(means) < 1e-9 else {}


def _reference_styles(ax):
    common = {"color": ink(ax), "linewidth": 1, "zorder": 1.5, "gid": ONCE}
    return [{"linestyle": dashes, **common} for dashes in _DASHES]


def _curves(ax):
    """Lines with values of k: not the horizontal ones."""
    return [line for line in ax.get_lines() if line.get_transform() == ax.transData]


def _check_sizes(k):
    sizes = np.asarray(k)
    whole = sizes.dtype.kind in "iuf" and (sizes == np.floor(sizes)).all()
    # numpy makes a number of True beside others.
    whole = whole and not any(
        isinstance(size, bool | np.bool_) for size in np.atleast_1d(np.array(k, object))
    )
    if sizes.ndim != 1 or not sizes.size or not whole or sizes.min() < 1:
        raise ValueError(f"k must be a list of positive integers, got {k!r}.")
    return np.unique(sizes.astype(np.intp))


def _set_ticks(ax):
    """Ticks at the values of k: not all of them where they are many."""
    sizes = np.unique(np.concatenate([line.get_xdata() for line in _curves(ax)]))
    ticks = [sizes[-1]]
    for size in sizes[-2::-1]:
        # A tenth of the axis is as wide as a number of three or four digits.
        if np.log(ticks[-1] / size) > 0.1 * np.log(sizes[-1] / sizes[0]):
            ticks.append(size)
    ax.set_xticks(ticks, [f"{size:g}" for size in ticks])
    ax.minorticks_off()
