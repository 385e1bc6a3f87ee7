"""Distribution of the selectivity over features."""

import numpy as np
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils._plotting import _validate_style_kwargs

from skdict.metrics import selectivity_scores

from ._estimators import encode, name_of
from ._style import as_list, drawing_on


class SelectivityCDFDisplay:
    """Distribution of the selectivity over the features of a dictionary.

    It is recommended to use :meth:`from_estimator` or :meth:`from_predictions`. All
    parameters are stored as attributes.

    Parameters
    ----------
    scores : ndarray of shape (n_components,) or list of them
        Scores of the features, for one curve or for several.
    kind : {"average", "maximum"}, default="average"
        The score, for the label of the x-axis.
    name : str or list of str, default=None
        Name of each curve in the legend.

    Attributes
    ----------
    line_ : matplotlib Line2D or list of them
        The curves; a list where there are several.
    ax_ : matplotlib Axes
        Axes with the curves.
    figure_ : matplotlib Figure
        Figure with the curves.

    See Also
    --------
    SelectivityCurveDisplay : Scores in falling order beside a permutation null.
    skdict.metrics.selectivity_scores : The scores.

    Notes
    -----
    Most features of a dictionary are selective for nothing. What sets dictionaries
    apart is the upper tail; ``complementary=True`` in :meth:`plot` shows it as the
    share of features above a score, on a logarithmic axis.

    Examples
    --------
    >>> from skdict.inspection import SelectivityCDFDisplay
    >>> codes = [[1.0, 0.0], [2.0, 0.5], [0.0, 0.3], [0.0, 0.0]]
    >>> display = SelectivityCDFDisplay.from_predictions(codes, ["a", "a", "b", "b"])
    >>> display.scores
    array([1., 0.])
    """

    def __init__(self, *, scores, kind="average", name=None):
        self.scores = scores
        self.kind = kind
        self.name = name

    def plot(self, ax=None, *, name=None, complementary=False, **kwargs):
        """Draw the distribution.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure as wide as a column.
        name : str or list of str, default=None
            Name of each curve in the legend; None: those of the constructor.
        complementary : bool, default=False
            Draw the share of features above a score, on a logarithmic axis, instead
            of the share up to it.
        **kwargs : dict
            Arguments for matplotlib's `ecdf`, which draws each curve.

        Returns
        -------
        display : SelectivityCDFDisplay
            The object itself.

        Raises
        ------
        ValueError
            If there are not as many names as curves.
        """
        curves = as_list(self.scores)
        names = self.name if name is None else name
        names = names if isinstance(names, list) else [names] * len(curves)
        if len(names) != len(curves):
            raise ValueError(
                f"There are {len(curves)} curves, but {len(names)} names: {names}."
            )
        with drawing_on(ax, f"{type(self).__name__}.plot") as ax:
            lines = []
            for scores, label in zip(curves, names, strict=True):
                line_kwargs = _validate_style_kwargs({"label": label}, kwargs)
                line = ax.ecdf(scores, complementary=complementary, **line_kwargs)
                lines.append(line)
            if complementary:
                ax.set(yscale="log", ylabel="share of features above the score")
            else:
                ax.set(ylim=(0, 1.02), ylabel="share of features")
            ax.set_xlabel(f"{self.kind} selectivity")
            if ax.get_legend_handles_labels()[1]:
                ax.legend(loc="upper right" if complementary else "lower right")
        self.line_ = lines if isinstance(self.scores, list) else lines[0]
        self.ax_, self.figure_ = ax, ax.figure
        return self

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X,
        y,
        *,
        labels=None,
        kind="average",
        threshold=0.0,
        name=None,
        ax=None,
        complementary=False,
        **kwargs,
    ):
        """Encode rows and draw the distribution of their features' scores.

        Parameters
        ----------
        estimator : estimator instance
            Fitted dictionary, or a fitted :class:`~sklearn.pipeline.Pipeline` whose
            last step is one.
        X : array-like of shape (n_samples, n_features)
            Rows, best those that the dictionary has not seen.
        y : array-like of shape (n_samples,)
            Labels, of at least two classes.
        labels : "all" or array-like, default=None
            Classes that get a curve each. None: one curve, of each feature's best
            score over the classes.
        kind, threshold
            As in :func:`~skdict.metrics.selectivity_scores`.
        name : str, default=None
            Name of the curve, or what stands before each class; None: that of the
            dictionary's class for one curve, nothing for several.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure as wide as a column. Those of another
            display compare dictionaries.
        complementary : bool, default=False
            Draw the share of features above a score, as in :meth:`plot`.
        **kwargs : dict
            Arguments for matplotlib's `ecdf`, which draws each curve.

        Returns
        -------
        display : SelectivityCDFDisplay
            The display, drawn.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        return cls.from_predictions(
            encode(estimator, X),
            y,
            labels=labels,
            kind=kind,
            threshold=threshold,
            name=name_of(estimator, name) if labels is None else name,
            ax=ax,
            complementary=complementary,
            **kwargs,
        )

    @classmethod
    def from_predictions(
        cls,
        codes,
        y,
        *,
        labels=None,
        kind="average",
        threshold=0.0,
        name=None,
        ax=None,
        complementary=False,
        **kwargs,
    ):
        """Draw the distribution of the scores of given codes.

        Parameters
        ----------
        codes : {array-like, sparse matrix or array} of shape (n_samples, n_components)
            Codes of the samples.
        y : array-like of shape (n_samples,)
            Labels, of at least two classes.
        labels : "all" or array-like, default=None
            Classes that get a curve each. None: one curve, of each feature's best
            score over the classes.
        kind, threshold
            As in :func:`~skdict.metrics.selectivity_scores`.
        name : str, default=None
            Name of the curve, or what stands before each class.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure as wide as a column.
        complementary : bool, default=False
            Draw the share of features above a score, as in :meth:`plot`.
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
        scores = selectivity_scores(codes, y, kind=kind, threshold=threshold)
        if labels is None:
            curves, names = scores.max(axis=1), name
        else:
            classes = np.unique(y)
            chosen = classes if isinstance(labels, str) and labels == "all" else labels
            chosen = np.atleast_1d(chosen)
            unknown = ~np.isin(chosen, classes)
            if unknown.any():
                raise ValueError(
                    f"No sample has the label {chosen[unknown].tolist()[0]!r}; the "
                    f"classes are {classes.tolist()}."
                )
            curves = [scores[:, c] for c in np.searchsorted(classes, chosen)]
            before = f"{name}, " if name else ""
            names = [f"{before}{label}" for label in chosen]
        display = cls(scores=curves, kind=kind, name=names)
        return display.plot(ax, complementary=complementary, **kwargs)
