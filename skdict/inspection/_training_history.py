"""Curves of the training of a dictionary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

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
    """Explained variance, dead features and learning rate over the epochs of training.

    It is recommended to use :meth:`from_estimator`. All parameters are stored as
    attributes.

    Parameters
    ----------
    history : list of dict
        One record for each epoch, as in the attribute `history_`.
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
    The dictionary changes during an epoch, and each batch is measured with the
    dictionary of that moment. The explained variance of the last epoch is therefore
    close to `score` on the training rows only if the dictionary no longer changes.

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

    def __init__(
        self, *, history: list[dict[str, Any]], name: str | None = None
    ) -> None:
        self.history = history
        self.name = name

    def plot(
        self,
        ax: Any = None,
        *,
        name: str | None = None,
        measures: str | Sequence[str] = (
            "explained_variance",
            "dead_fraction",
            "learning_rate",
        ),
        **kwargs: Any,
    ) -> Self:
        """Draw one panel for each measure.

        Parameters
        ----------
        ax : matplotlib Axes or array-like of them, default=None
            One Axes for each measure, such as the `ax_` of another display, or a
            single one, which is divided between the measures. None makes a figure as
            wide as a column.
        name : str, default=None
            Name of the dictionary in the legend; None means that of the constructor.
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
            If there was no epoch, if `measures` is empty or holds what the records
            lack, or if the number of Axes is wrong.
        """
        measures = [measures] if isinstance(measures, str) else list(measures)
        self._check(measures)
        name = self.name if name is None else name
        check_name(name)
        epochs = np.array([record["epoch"] for record in self.history])
        line_kwargs: dict[str, Any] = {"label": None if name is None else plain(name)}
        if len(epochs) < 20:
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
                self.lines_ += panel.plot(epochs, values, **line_kwargs)
                panel.set_ylabel(_LABELS.get(measure, plain(measure)))
                if panel.get_window_extent().height < 0.75 * panel.figure.dpi:
                    panel.yaxis.label.set_size("xx-small")
                _set_limits(panel, measure)
            axes[-1].set_xlabel("epoch")
            axes[-1].xaxis.get_major_locator().set_params(integer=True)
            legend_above(axes[0], height=0.3 + 0.95 * len(measures))
            axes[0].figure.align_ylabels(axes)
        self.ax_, self.figure_ = axes, axes[0].figure
        return self

    def _check(self, measures: list[str]) -> None:
        if not self.history:
            raise ValueError(
                "The history is empty: the dictionary was fitted without training "
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
        estimator: Any,
        *,
        measures: str | Sequence[str] = (
            "explained_variance",
            "dead_fraction",
            "learning_rate",
        ),
        name: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the history of a fitted dictionary.

        Parameters
        ----------
        estimator : estimator instance
            Fitted dictionary with `history_`, or a fitted
            :class:`~sklearn.pipeline.Pipeline` whose last step is one.
        measures : list of str, default=("explained_variance", "dead_fraction", \
                "learning_rate")
            Measures to draw, as in :meth:`plot`.
        name : str, default=None
            Name of the dictionary; None means that of its class.
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


def _set_limits(panel: Any, measure: str) -> None:
    """Set limits and scales so that extreme values do not flatten the rest."""
    lines = [line.get_ydata() for line in panel.get_lines()]
    values = np.concatenate(lines)
    if measure == "explained_variance" and values.min() < -0.1 < values.max():
        panel.set_ylim(bottom=-0.1)
    if measure == "dead_fraction":
        top = max(0.1, 1.05 * values.max())
        panel.set_ylim(-0.03 * top, top)
    if measure == "learning_rate":
        # Rates of dictionaries in one panel may differ by a factor of hundreds.
        highest = [max(line) for line in lines]
        if max(highest) > 20 * min(highest) > 0:
            # A decaying rate ends at 0, which a logarithmic axis does not have.
            panel.set_yscale("log", nonpositive="mask")
