"""Distribution of the selectivity over features, with its null."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from skdict._utils.constraints import check_name
from skdict._utils.labels import as_labels, encode
from skdict._utils.sklearn_private import (
    check_matplotlib_support,
    validate_style_kwargs,
)
from skdict._utils.types import Codes, Data, Seed
from skdict.stats import selectivity_curves

from ._style import ONCE, as_list, drawing_on, label_y, legend_above, plain
from .estimators import encode as codes_of
from .estimators import name_of


class SelectivityCDFDisplay:
    """Distribution of the selectivity over the features of a dictionary.

    It is recommended to use :meth:`from_estimator` or :meth:`from_predictions`. All
    parameters are stored as attributes.

    Parameters
    ----------
    scores : ndarray of shape (n_components,) or list of them
        Scores of the features, for one curve or several.
    null_low, null_high : ndarray of shape (n_components,) or list, default=None
        Edges of the null's band at each rank of the sorted scores, as in
        `SelectivityCurveDisplay`, for one curve or several. None means no band, for all
        curves or, in a list, for one.
    contrast : {"average", "maximum"}, default="average"
        The score, for the label of the x-axis.
    name : str or list of str, default=None
        Name of each curve in the legend.

    Attributes
    ----------
    line_ : matplotlib Line2D or list of them
        The curves; a list if there are several.
    null_bands_ : list of matplotlib PolyCollection or None
        The null's band of each curve.
    ax_ : matplotlib Axes
        Axes with the curves.
    figure_ : matplotlib Figure
        Figure with the curves.

    See Also
    --------
    SelectivityCurveDisplay : Scores in falling order, with a permutation null.
    skdict.metrics.selectivity_scores : The scores.

    Notes
    -----
    Most features of a dictionary are not selective for any class, and dictionaries
    differ in the upper tail. ``complementary=True`` in :meth:`plot` shows it as the
    fraction of features above a score, on a logarithmic axis.

    At each fraction of the features, the band holds the central 90 % of the score at
    which that fraction is reached when labels are permuted. It is the band of
    `SelectivityCurveDisplay` with the axes exchanged.

    Examples
    --------
    >>> from skdict.inspection import SelectivityCDFDisplay
    >>> codes = [[1.0, 0.0], [2.0, 0.5], [0.0, 0.3], [0.0, 0.0]]
    >>> display = SelectivityCDFDisplay.from_predictions(codes, ["a", "a", "b", "b"])
    >>> display.scores
    array([1., 0.])
    """

    def __init__(
        self,
        *,
        scores: Any,
        null_low: Any = None,
        null_high: Any = None,
        contrast: str = "average",
        name: Any = None,
    ) -> None:
        self.scores = scores
        self.null_low = null_low
        self.null_high = null_high
        self.contrast = contrast
        self.name = name

    def plot(
        self,
        ax: Any = None,
        *,
        name: Any = None,
        complementary: bool = False,
        null_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the distribution.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure as wide as a journal column.
        name : str or list of str, default=None
            Name of each curve in the legend; None means those of the constructor.
        complementary : bool, default=False
            Whether to draw the fraction of features above a score, on a logarithmic
            axis, instead of the fraction up to it.
        null_kwargs : dict, default=None
            Arguments for matplotlib's `fill_betweenx`, which draws the bands.
        **kwargs : dict
            Arguments for matplotlib's `ecdf`, which draws each curve.

        Returns
        -------
        display : SelectivityCDFDisplay
            The object itself.

        Raises
        ------
        ValueError
            If the number of names or of edges of bands is not that of curves.
        """
        curves = as_list(self.scores)
        names = self._one_each(self.name if name is None else name, "names")
        lows = self._one_each(self.null_low, "lower edges")
        highs = self._one_each(self.null_high, "upper edges")
        with drawing_on(ax, f"{type(self).__name__}.plot") as ax:
            lines, self.null_bands_ = [], []
            for scores, label, low, high in zip(
                curves, names, lows, highs, strict=True
            ):
                line_kwargs = {"label": None if label is None else plain(label)}
                line_kwargs = validate_style_kwargs(line_kwargs, kwargs)
                line = ax.ecdf(scores, complementary=complementary, **line_kwargs)
                lines.append(line)
                band = None
                if low is not None and high is not None:
                    style = {
                        "label": "null (central 90 %)",
                        "gid": ONCE,
                        "color": line.get_color(),
                        "alpha": 0.25,
                        "linewidth": 0,
                    } | (null_kwargs or {})
                    band = _fill_between(ax, low, high, complementary, style)
                self.null_bands_.append(band)
            if complementary:
                # End the axis below the smallest fraction above 0, that of one feature.
                n_each = [len(line.get_xdata()) for line in ax.get_lines()]
                ax.set_yscale("log")
                label_y(ax, "fraction of features above the score")
                ax.set_ylim(0.7 / max(1, *n_each), 1.4)
            else:
                ax.set_ylim(0, 1.02)
                label_y(ax, "fraction of features")
            ax.set_xlabel(f"{plain(self.contrast)} selectivity")
            ax.locator_params(axis="x", nbins=6)
            legend_above(ax)
        self.line_ = lines if isinstance(self.scores, list) else lines[0]
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _one_each(self, values: Any, what: str) -> list[Any]:
        """List one value for each curve."""
        n_curves = len(as_list(self.scores))
        values = values if isinstance(values, list) else [values] * n_curves
        if len(values) != n_curves:
            raise ValueError(
                f"There are {n_curves} curves, but {len(values)} {what}: {values}."
            )
        return values

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Data,
        y: Data,
        *,
        labels: Data | None = None,
        contrast: str = "average",
        activity_threshold: float = 0.0,
        n_permutations: int = 100,
        batch: Data | None = None,
        groups: Data | None = None,
        control: Data | None = None,
        grid_shape: Data | None = None,
        random_state: Seed = None,
        name: str | None = None,
        ax: Any = None,
        complementary: bool = False,
        null_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Encode rows and draw the distribution of their features' scores.

        Parameters
        ----------
        estimator : estimator instance
            Fitted dictionary, or a fitted :class:`~sklearn.pipeline.Pipeline` whose
            last step is one.
        X : array-like of shape (n_samples, n_features)
            Rows, preferably not those on which the dictionary was trained.
        y : array-like of shape (n_samples,)
            Labels, of at least two classes.
        labels : "all" or array-like, default=None
            Classes that get a curve each. None draws one curve, of each feature's best
            score over the classes that permutation can move.
        contrast, activity_threshold
            As in :func:`~skdict.metrics.selectivity_scores`.
        n_permutations, batch, groups, control, grid_shape, random_state
            Null of each curve, as in :func:`~skdict.metrics.selectivity_curve`. With
            ``n_permutations=0`` there is no null.
        name : str, default=None
            Name of the curve, or a prefix to the names of classes. None means the name
            of the dictionary's class for one curve, and no prefix for several.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure as wide as a journal column.
            Pass the axes of another display to compare dictionaries.
        complementary : bool, default=False
            Whether to draw the fraction of features above a score, as in :meth:`plot`.
        null_kwargs : dict, default=None
            Arguments for matplotlib's `fill_betweenx`, which draws the bands.
        **kwargs : dict
            Arguments for matplotlib's `ecdf`, which draws each curve.

        Returns
        -------
        display : SelectivityCDFDisplay
            The display, drawn.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        check_name(name)
        return cls.from_predictions(
            codes_of(estimator, X),
            y,
            labels=labels,
            contrast=contrast,
            activity_threshold=activity_threshold,
            n_permutations=n_permutations,
            batch=batch,
            groups=groups,
            control=control,
            grid_shape=grid_shape,
            random_state=random_state,
            name=name_of(estimator, name) if labels is None else name,
            ax=ax,
            complementary=complementary,
            null_kwargs=null_kwargs,
            **kwargs,
        )

    @classmethod
    def from_predictions(
        cls,
        codes: Codes,
        y: Data,
        *,
        labels: Data | None = None,
        contrast: str = "average",
        activity_threshold: float = 0.0,
        n_permutations: int = 100,
        batch: Data | None = None,
        groups: Data | None = None,
        control: Data | None = None,
        grid_shape: Data | None = None,
        random_state: Seed = None,
        name: str | None = None,
        ax: Any = None,
        complementary: bool = False,
        null_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the distribution of the scores of given codes.

        Parameters
        ----------
        codes : {array-like, sparse matrix or array} of shape (n_samples, n_components)
            Codes of the samples.
        y : array-like of shape (n_samples,)
            Labels, of at least two classes.
        labels : "all" or array-like, default=None
            Classes that get a curve each. None draws one curve, of each feature's best
            score over the classes that permutation can move.
        contrast, activity_threshold
            As in :func:`~skdict.metrics.selectivity_scores`.
        n_permutations, batch, groups, control, grid_shape, random_state
            Null of each curve, as in :func:`~skdict.metrics.selectivity_curve`. With
            ``n_permutations=0`` there is no null.
        name : str, default=None
            Name of the curve, or a prefix to the names of classes.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure as wide as a journal column.
        complementary : bool, default=False
            Whether to draw the fraction of features above a score, as in :meth:`plot`.
        null_kwargs : dict, default=None
            Arguments for matplotlib's `fill_betweenx`, which draws the bands.
        **kwargs : dict
            Arguments for matplotlib's `ecdf`, which draws each curve.

        Returns
        -------
        display : SelectivityCDFDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If `labels` holds a class that no sample has.
        """
        check_matplotlib_support(f"{cls.__name__}.from_predictions")
        check_name(name)
        chosen: list[Any] = [None]
        names: Any = name
        if labels is not None:
            is_all = isinstance(labels, str) and labels == "all"
            if is_all:
                labels = encode(y, "y")[0]
            elif np.ndim(labels) == 0:
                labels = [labels]
            classes = as_labels(labels, "labels")
            # tolist() would turn dates in nanoseconds into plain integers.
            chosen = [*classes] if classes.dtype.kind in "mM" else classes.tolist()
            before = f"{name}, " if name else ""
            names = [f"{before}{label}" for label in chosen]
        curves = selectivity_curves(
            codes,
            y,
            chosen,
            contrast=contrast,
            activity_threshold=activity_threshold,
            n_permutations=n_permutations,
            batch=batch,
            groups=groups,
            control=control,
            grid_shape=grid_shape,
            random_state=random_state,
        )
        scores = [curve.scores[np.argsort(curve.features)] for curve in curves]
        # A class that is never exchanged with another has no null.
        bands = [
            (None, None)
            if curve.low is None or np.isnan(curve.low).any()
            else (curve.low, curve.high)
            for curve in curves
        ]
        lows, highs = ([*edges] for edges in zip(*bands, strict=True))
        display = cls(
            scores=scores[0] if labels is None else scores,
            null_low=lows if n_permutations > 0 else None,
            null_high=highs if n_permutations > 0 else None,
            contrast=contrast,
            name=names,
        )
        return display.plot(
            ax, complementary=complementary, null_kwargs=null_kwargs, **kwargs
        )


def _fill_between(
    ax: Any,
    low: np.ndarray,
    high: np.ndarray,
    complementary: bool,
    style: dict[str, Any],
) -> Any:
    """Draw a band between two curves of sorted scores, given in falling order."""
    # It jumps to i / n at the i-th lowest score: the i-th rectangle ends there.
    low, high = (np.asarray(edge)[::-1] for edge in (low, high))
    low, high = (np.concatenate((edge[:1], edge)) for edge in (low, high))
    fractions = np.linspace(0, 1, len(low))
    fractions = 1 - fractions if complementary else fractions
    return ax.fill_betweenx(fractions, low, high, step="pre", **style)
