"""The most important concepts of a decision."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd

from skdict._utils.constraints import is_integer
from skdict._utils.sklearn_private import check_matplotlib_support

from ._style import BLUE, GREY, ONCE, drawing_on, ink, legend_above, plain
from ._tables import check_runs

# Number of letters of a name beside a bar.
_LONGEST = 24


class ConceptImportanceDisplay:
    """Importances of concepts as bars, the most important at the top.

    It is recommended to use :meth:`from_table`. All parameters are stored as
    attributes.

    Parameters
    ----------
    table : DataFrame
        Table of :func:`~skdict.concepts.concept_importance`.
    feature_names : dict of int to str, default=None
        What features are called, by their index.

    Attributes
    ----------
    bars_ : matplotlib BarContainer
        Importances, with one standard error on either side.
    null_ticks_ : list of matplotlib PathCollection
        At each bar, the importance of the same feature with the atom of another one, to
        both sides of zero.
    ax_ : matplotlib Axes
        Axes with the bars.
    figure_ : matplotlib Figure
        Figure with the bars.

    See Also
    --------
    skdict.concepts.concept_importance : Makes the table.

    Examples
    --------
    >>> import pandas as pd
    >>> from skdict.inspection import ConceptImportanceDisplay
    >>> table = pd.DataFrame(
    ...     {
    ...         "feature": [7, 2],
    ...         "importance": [0.8, -0.3],
    ...         "standard_error": [0.1, 0.1],
    ...         "random_importance": [0.2, 0.2],
    ...     }
    ... )
    >>> display = ConceptImportanceDisplay.from_table(table, feature_names={7: "actin"})
    >>> [label.get_text() for label in display.ax_.get_yticklabels()]
    ['actin', '2']
    """

    def __init__(
        self,
        *,
        table: pd.DataFrame,
        feature_names: dict[int, str] | None = None,
    ) -> None:
        self.table = table
        self.feature_names = feature_names

    def plot(self, ax: Any = None, *, max_concepts: int = 32, **kwargs: Any) -> Self:
        """Draw the bars.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure as wide as a journal column.
        max_concepts : int, default=32
            Largest number of concepts.
        **kwargs : dict
            Arguments for matplotlib's `barh`.

        Returns
        -------
        display : ConceptImportanceDisplay
            The object itself.

        Raises
        ------
        TypeError
            If `table` is not a DataFrame.
        ValueError
            If there are no concepts, if a column or a value is missing, or if
            `max_concepts` is not a positive integer.
        """
        if not is_integer(max_concepts) or max_concepts < 1:
            raise ValueError(
                f"max_concepts must be a positive integer, got {max_concepts!r}."
            )
        columns = ["feature", "importance", "random_importance"]
        table = check_runs(self.table, columns, "table")[:max_concepts]
        names = self.feature_names or {}
        places = np.arange(len(table))
        height = max(1.2, 0.5 + 0.15 * len(table))
        with drawing_on(ax, f"{type(self).__name__}.plot", height=height) as ax:
            errors = None
            if "standard_error" in table and table["standard_error"].notna().all():
                errors = table["standard_error"]
            style = {
                "color": BLUE,
                "label": "importance ± SE" if errors is not None else "importance",
                "ecolor": ink(ax),
                "error_kw": {"linewidth": 0.8},
            } | kwargs
            self.bars_ = ax.barh(places, table["importance"], xerr=errors, **style)
            self.null_ticks_ = [
                ax.scatter(
                    sign * table["random_importance"],
                    places,
                    marker="|",
                    color=GREY,
                    s=20,
                    linewidth=1.2,
                    zorder=3,
                    label="with another atom" if sign > 0 else None,
                    gid=ONCE,
                )
                for sign in (1, -1)
            ]
            ax.axvline(0, color=ink(ax), linewidth=0.7)
            ticks = [_short(names.get(int(j), j)) for j in table["feature"]]
            ax.set_yticks(places, ticks)
            ax.set_ylim(len(table) - 0.4, -0.6)
            ax.set_xlabel("contribution to the score")
            ax.set_ylabel("feature")
            legend_above(ax, height=height)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    @classmethod
    def from_table(
        cls,
        table: pd.DataFrame,
        *,
        feature_names: dict[int, str] | None = None,
        max_concepts: int = 32,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw a table of importances.

        Parameters
        ----------
        table : DataFrame
            Table of :func:`~skdict.concepts.concept_importance`.
        feature_names : dict of int to str, default=None
            What features are called, by their index.
        max_concepts : int, default=32
            Largest number of concepts.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure as wide as a journal column.
        **kwargs : dict
            Arguments for matplotlib's `barh`.

        Returns
        -------
        display : ConceptImportanceDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If `table` is not a DataFrame.
        ValueError
            If there are no concepts, if a column or a value is missing, or if
            `max_concepts` is not a positive integer.
        """
        check_matplotlib_support(f"{cls.__name__}.from_table")
        display = cls(table=table, feature_names=feature_names)
        return display.plot(ax, max_concepts=max_concepts, **kwargs)


def _short(name: Any) -> str:
    """Cut a long name, which would leave no room for the bars."""
    text = str(name)
    return plain(text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…")
