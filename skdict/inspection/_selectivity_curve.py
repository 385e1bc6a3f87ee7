"""Selectivity of all features in falling order, with a permutation null."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd

from skdict._utils.constraints import check_name
from skdict._utils.sklearn_private import (
    check_matplotlib_support,
    validate_style_kwargs,
)
from skdict._utils.types import Codes, Data, Seed
from skdict.metrics import selectivity_curve

from ._style import ONCE, drawing_on, label_y, legend_above, plain
from .estimators import encode, name_of


class SelectivityCurveDisplay:
    """Selectivity of all features in falling order, with a permutation null.

    It is recommended to use :meth:`from_estimator` or :meth:`from_predictions`. All
    parameters are stored as attributes.

    Parameters
    ----------
    scores : ndarray of shape (n_components,)
        Scores in falling order.
    null_low, null_high : ndarray of shape (n_components,), default=None
        Edges of the null's band at each rank. None means no band, for instance for a
        class whose labels are never exchanged with others.
    contrast : {"average", "maximum"}, default="average"
        The score, for the label of the y-axis.
    label : label of a class, default=None
        Class of the scores. None means each feature's best score over the classes.
    name : str, default=None
        Name of the curve in the legend.

    Attributes
    ----------
    line_ : matplotlib Line2D
        The curve.
    null_band_ : matplotlib PolyCollection or None
        The null's band.
    ax_ : matplotlib Axes
        Axes with the curve.
    figure_ : matplotlib Figure
        Figure with the curve.

    See Also
    --------
    skdict.metrics.selectivity_curve : Computes scores and null.
    SelectivityCDFDisplay : The distribution over features.

    Notes
    -----
    At each rank, the band holds the central 90 % of the score at this rank when labels
    are permuted. A curve that is above the band up to rank `r` does not mean that
    exactly `r` features exceed chance; :func:`~skdict.metrics.selectivity_tests` says
    which features do.

    Examples
    --------
    >>> import numpy as np
    >>> from skdict.inspection import SelectivityCurveDisplay
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat(["control", "treated"], 50)
    >>> codes = rng.random((100, 20)) * (rng.random((100, 20)) < 0.3)
    >>> codes[:, 7] = y == "treated"
    >>> display = SelectivityCurveDisplay.from_predictions(
    ...     codes, y, n_permutations=20, random_state=0
    ... )
    >>> float(display.line_.get_ydata()[0])
    1.0
    """

    def __init__(
        self,
        *,
        scores: np.ndarray,
        null_low: np.ndarray | None = None,
        null_high: np.ndarray | None = None,
        contrast: str = "average",
        label: Any = None,
        name: str | None = None,
    ) -> None:
        self.scores = scores
        self.null_low = null_low
        self.null_high = null_high
        self.contrast = contrast
        self.label = label
        self.name = name

    def plot(
        self,
        ax: Any = None,
        *,
        name: str | None = None,
        null_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the curve.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure as wide as a journal column.
        name : str, default=None
            Name of the curve in the legend; None means that of the constructor.
        null_kwargs : dict, default=None
            Arguments for matplotlib's `fill_between`, which draws the band.
        **kwargs : dict
            Arguments for matplotlib's `plot`, which draws the curve.

        Returns
        -------
        display : SelectivityCurveDisplay
            The object itself.
        """
        name = self.name if name is None else name
        check_name(name)
        scores = np.asarray(self.scores)
        rank = np.arange(1, len(scores) + 1)
        with drawing_on(ax, f"{type(self).__name__}.plot") as ax:
            line_kwargs = {"label": None if name is None else plain(name)}
            line_kwargs = validate_style_kwargs(line_kwargs, kwargs)
            (self.line_,) = ax.plot(rank, scores, **line_kwargs)
            self.null_band_ = None
            if self.null_low is not None and self.null_high is not None:
                band_kwargs = {
                    "label": "null (central 90 %)",
                    "gid": ONCE,
                    "color": self.line_.get_color(),
                    "alpha": 0.25,
                    "linewidth": 0,
                } | (null_kwargs or {})
                self.null_band_ = ax.fill_between(
                    rank, self.null_low, self.null_high, **band_kwargs
                )
            of_label = "" if self.label is None else f" for {plain(self.label)}"
            ax.set(
                xscale="log",
                xlabel="feature, by falling score",
            )
            label_y(ax, f"{plain(self.contrast)} selectivity{of_label}")
            ax.xaxis.set_major_formatter("{x:.0f}")
            ax.xaxis.set_minor_formatter("")
            if ax.dataLim.x1 < 10:
                ax.set_xticks(np.arange(1, ax.dataLim.x1 + 1))
            legend_above(ax)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Data,
        y: Data,
        *,
        label: Any = None,
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
        null_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Encode rows and draw the scores of their features in falling order.

        Parameters
        ----------
        estimator : estimator instance
            Fitted dictionary, or a fitted :class:`~sklearn.pipeline.Pipeline` whose
            last step is one.
        X : array-like of shape (n_samples, n_features)
            Rows, preferably not those on which the dictionary was trained.
        y : array-like of shape (n_samples,)
            Labels, of at least two classes.
        label : label of a class, default=None
            Class whose scores are drawn. None draws each feature's best score over the
            classes that permutation can move.
        contrast, activity_threshold
            As in :func:`~skdict.metrics.selectivity_curve`.
        n_permutations, batch, groups, control, grid_shape, random_state
            Null of the curve, as in :func:`~skdict.metrics.selectivity_curve`. With
            ``n_permutations=0`` there is no null.
        name : str, default=None
            Name of the curve; None means that of the dictionary's class.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure as wide as a journal column.
        null_kwargs : dict, default=None
            Arguments for matplotlib's `fill_between`, which draws the band.
        **kwargs : dict
            Arguments for matplotlib's `plot`, which draws the curve.

        Returns
        -------
        display : SelectivityCurveDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            As :func:`~skdict.metrics.selectivity_curve`.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        check_name(name)
        return cls.from_predictions(
            encode(estimator, X),
            y,
            label=label,
            contrast=contrast,
            activity_threshold=activity_threshold,
            n_permutations=n_permutations,
            batch=batch,
            groups=groups,
            control=control,
            grid_shape=grid_shape,
            random_state=random_state,
            name=name_of(estimator, name),
            ax=ax,
            null_kwargs=null_kwargs,
            **kwargs,
        )

    @classmethod
    def from_predictions(
        cls,
        codes: Codes,
        y: Data,
        *,
        label: Any = None,
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
        null_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the scores of the features of given codes in falling order.

        Parameters
        ----------
        codes : {array-like, sparse matrix or array} of shape (n_samples, n_components)
            Codes of the samples.
        y : array-like of shape (n_samples,)
            Labels, of at least two classes.
        label : label of a class, default=None
            Class whose scores are drawn. None draws each feature's best score over the
            classes that permutation can move.
        contrast, activity_threshold
            As in :func:`~skdict.metrics.selectivity_curve`.
        n_permutations, batch, groups, control, grid_shape, random_state
            Null of the curve, as in :func:`~skdict.metrics.selectivity_curve`. With
            ``n_permutations=0`` there is no null.
        name : str, default=None
            Name of the curve in the legend.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure as wide as a journal column.
        null_kwargs : dict, default=None
            Arguments for matplotlib's `fill_between`, which draws the band.
        **kwargs : dict
            Arguments for matplotlib's `plot`, which draws the curve.

        Returns
        -------
        display : SelectivityCurveDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            As :func:`~skdict.metrics.selectivity_curve`.
        """
        check_matplotlib_support(f"{cls.__name__}.from_predictions")
        check_name(name)
        curve = selectivity_curve(
            codes,
            y,
            label=label,
            contrast=contrast,
            activity_threshold=activity_threshold,
            n_permutations=n_permutations,
            batch=batch,
            groups=groups,
            control=control,
            grid_shape=grid_shape,
            random_state=random_state,
        )
        low, high = _null_band(curve)
        display = cls(
            scores=np.asarray(curve["score"]),
            null_low=low,
            null_high=high,
            contrast=contrast,
            label=label,
            name=name,
        )
        return display.plot(ax, null_kwargs=null_kwargs, **kwargs)


def _null_band(curve: pd.DataFrame) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Edges of the band in a table of `selectivity_curve`; None without a null."""
    edges = [curve[key] for key in ("null_q05", "null_q95") if key in curve]
    # A class that is never exchanged with another has no null.
    if not edges or np.isnan(edges[0]).any():
        return None, None
    low, high = map(np.asarray, edges)
    return low, high
