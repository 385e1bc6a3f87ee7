"""What happened while a dictionary was trained."""

import numpy as np

from skdict._utils.constraints import check_name
from skdict._utils.sklearn_private import (
    check_matplotlib_support,
    validate_style_kwargs,
)

from ._style import drawing_on, legend_above, plain
from .estimators import fitted_attribute, name_of

_LABELS = {
    "explained_variance": "explained\nvariance",
    "dead_fraction": "dead fraction",
    "learning_rate": "learning\nrate",
    "loss": "loss",
    "resets": "resets",
    "seconds": "seconds",
}


class TrainingHistoryDisplay:
    """Explained variance, dead features and learning rate over the training's passes.

    It is recommended to use :meth:`from_estimator`. All parameters are stored as
    attributes.

    Parameters
    ----------
    history : list of dict
        One record for each pass, as in the attribute `history_`.
    name : str, default=None
        Name of the dictionary in the legend.

    Attributes
    ----------
    lines_ : list of matplotlib Line2D
        One line for each measure.
    ax_ : ndarray of matplotlib Axes
        One for each measure.
    figure_ : matplotlib Figure
        Figure with the axes.

    See Also
    --------
    skdict.ICFL : Keeps the history of its training.
    skdict.TopKSAE : Keeps the history of its training.

    Notes
    -----
    The figures of a pass are those of the moving dictionary, over the batches as they
    came: the explained variance after the last pass is that of `score`, on the
    training rows, only as far as the dictionary has come to rest.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skdict import ICFL
    >>> from skdict.inspection import TrainingHistoryDisplay
    >>> X, _ = load_digits(return_X_y=True)
    >>> dictionary = ICFL(64, 4, max_iter=3, random_state=0).fit(X)
    >>> display = TrainingHistoryDisplay.from_estimator(dictionary)
    >>> display.ax_.shape
    (3,)
    """

    def __init__(self, *, history, name=None):
        self.history = history
        self.name = name

    def plot(
        self,
        ax=None,
        *,
        name=None,
        measures=("explained_variance", "dead_fraction", "learning_rate"),
        **kwargs,
    ):
        """Draw one panel for each measure.

        Parameters
        ----------
        ax : matplotlib Axes or array-like of them, default=None
            As many Axes as measures, such as the `ax_` of another display, or one,
            which is divided where there are several measures. None makes a figure as
            wide as a column.
        name : str, default=None
            Name of the dictionary in the legend; None: that of the constructor.
        measures : list of str, default=("explained_variance", "dead_fraction", \
                "learning_rate")
            Keys of the records; also "loss", "resets" and "seconds".
        **kwargs : dict
            Arguments for matplotlib's `plot`.

        Returns
        -------
        display : TrainingHistoryDisplay
            The object itself.

        Raises
        ------
        ValueError
            If there was no pass, if `measures` is empty or holds what the records
            lack, or if the Axes do not suit it.
        """
        measures = [measures] if isinstance(measures, str) else list(measures)
        self._check(measures)
        name = self.name if name is None else name
        check_name(name)
        passes = np.array([record["epoch"] for record in self.history])
        line_kwargs = {"label": None if name is None else plain(name)}
        if len(passes) < 20:
            line_kwargs["marker"] = "."
        line_kwargs = validate_style_kwargs(line_kwargs, kwargs)
        self.lines_ = []
        with drawing_on(
            ax,
            f"{type(self).__name__}.plot",
            height=0.5 + 0.95 * len(measures),
            n_rows=len(measures),
        ) as axes:
            axes = np.ravel(axes)
            for panel, measure in zip(axes, measures, strict=True):
                values = [record[measure] for record in self.history]
                self.lines_ += panel.plot(passes, values, **line_kwargs)
                panel.set_ylabel(_LABELS.get(measure, plain(measure)))
                if panel.get_window_extent().height < 0.75 * panel.figure.dpi:
                    panel.yaxis.label.set_size("xx-small")
                _set_limits(panel, measure)
            axes[-1].set_xlabel("pass over the data")
            axes[-1].xaxis.get_major_locator().set_params(integer=True)
            legend_above(axes[0], height=0.3 + 0.95 * len(measures))
            axes[0].figure.align_ylabels(axes)
        self.ax_, self.figure_ = axes, axes[0].figure
        return self

    def _check(self, measures):
        if not self.history:
            raise ValueError(
                "The history is empty: the dictionary was fitted without a pass "
                "(max_iter=0)."
            )
        known = set(self.history[0])
        unknown = [measure for measure in measures if measure not in known]
        if unknown or not measures:
            raise ValueError(
                f"measures must be some of {sorted(known)}, got {unknown or measures}."
            )

    @classmethod
    def from_estimator(
        cls,
        estimator,
        *,
        measures=("explained_variance", "dead_fraction", "learning_rate"),
        name=None,
        ax=None,
        **kwargs,
    ):
        """Draw the history of a fitted dictionary.

        Parameters
        ----------
        estimator : estimator instance
            Fitted dictionary with `history_`, or a fitted
            :class:`~sklearn.pipeline.Pipeline` whose last step is one.
        measures : list of str, default=("explained_variance", "dead_fraction", \
                "learning_rate")
            What to draw, as in :meth:`plot`.
        name : str, default=None
            Name of the dictionary; None: that of its class.
        ax : matplotlib Axes or array-like of them, default=None
            Axes to draw on, as in :meth:`plot`.
        **kwargs : dict
            Arguments for matplotlib's `plot`.

        Returns
        -------
        display : TrainingHistoryDisplay
            The display, drawn.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        history = fitted_attribute(estimator, "history_")
        display = cls(history=history, name=name_of(estimator, name))
        return display.plot(ax, measures=measures, **kwargs)


def _set_limits(panel, measure):
    """Limits and scales that keep extremes from flattening the rest."""
    lines = [line.get_ydata() for line in panel.get_lines()]
    values = np.concatenate(lines)
    if measure == "explained_variance" and values.min() < -0.1 < values.max():
        panel.set_ylim(bottom=-0.1)
    if measure == "dead_fraction":
        top = max(0.1, 1.05 * values.max())
        panel.set_ylim(-0.03 * top, top)
    if measure == "learning_rate":
        # ICFL's rate is hundreds of times that of TopKSAE.
        highest = [max(line) for line in lines]
        if max(highest) > 20 * min(highest) > 0:
            # An annealed rate ends at 0, which has no place on this axis.
            panel.set_yscale("log", nonpositive="mask")
