"""Runs to mean, standard deviation and bootstrap interval."""

from __future__ import annotations

from numbers import Real

import numpy as np
from scipy.stats import bootstrap

from skdict._utils.constraints import Interval
from skdict._utils.sklearn_private import validate_params
from skdict._utils.table import as_table

_N_RESAMPLES = 2000
# What tells runs apart, and so is not averaged.
_KEYS = ("dictionary", "layer", "seed", "fold", "chosen", "refitted")


@validate_params(
    {
        "runs": [list],
        "by": [str],
        "confidence_level": [Interval(Real, 0, 1, closed="neither")],
    },
    prefer_skip_nested_validation=True,
)
def summary_table(runs, *, by="dictionary", confidence_level=0.95):
    """Mean, standard deviation and bootstrap interval of every measure.

    Parameters
    ----------
    runs : list of dict
        One for each run, as in ``compare_dictionaries(...).attrs["runs"]``. Lists of
        several comparisons may be joined.

    by : str, default="dictionary"
        Key whose values make the rows: "dictionary", "seed", "fold" or, from
        :func:`sweep_layers`, "layer".

    confidence_level : float, default=0.95
        Of the interval.

    Returns
    -------
    table : DataFrame
        One row for each value of `by` and each measure, with the columns

        - the name given as `by`, and `measure`;
        - `mean` and `std` over the runs (``n - 1`` in the denominator; 0 for one run);
        - `low` and `high`: percentile bootstrap interval of the mean (both the mean
          for one run);
        - `n_runs`;
        - `refitted`, where the runs say it: "yes" if they fitted all steps of their
          pipelines, "no" if they fitted none, because all are frozen, and otherwise
          "in part".

    Raises
    ------
    ValueError
        If there are no runs, or if some lack the key `by`.

    See Also
    --------
    compare_dictionaries : Makes the runs.

    Notes
    -----
    The interval resamples runs. Runs of different folds share most of their training
    rows, and runs of different seeds share all: the interval says how far the mean
    moves between runs like these, not how far it may be off on new data.

    Examples
    --------
    >>> from skdict.evaluation import summary_table
    >>> runs = [
    ...     {"dictionary": "a", "seed": s, "fold": 0, "cosine": c}
    ...     for s, c in enumerate([0.5, 0.6, 0.7])
    ... ]
    >>> table = summary_table(runs)
    >>> round(float(table["mean"][0]), 3), int(table["n_runs"][0])
    (0.6, 3)
    """
    if not runs:
        raise ValueError("There are no runs to summarise.")
    lacking = [i for i, run in enumerate(runs) if by not in run]
    if lacking:
        raise ValueError(
            f"{len(lacking)} of {len(runs)} runs lack the key {by!r} (the first is run "
            f"{lacking[0]}, with {sorted(map(str, runs[lacking[0]]))})."
        )
    rows = []
    for value in dict.fromkeys(run[by] for run in runs):
        own = [run for run in runs if run[by] == value]
        said = _refitted(own) if all("refitted" in run for run in runs) else {}
        for measure in dict.fromkeys(name for run in own for name in run):
            if measure in _KEYS:
                continue
            figures = np.array([run[measure] for run in own if measure in run])
            rows.append(
                {by: value, "measure": measure}
                | _spread(figures, confidence_level)
                | {"n_runs": len(figures)}
                | said
            )
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    table = as_table(columns)
    table.attrs["runs"] = runs
    return table


def _refitted(runs) -> dict[str, str]:
    answers = {run["refitted"] for run in runs}
    return {"refitted": answers.pop() if len(answers) == 1 else "in part"}


def _spread(figures: np.ndarray, confidence_level: float) -> dict[str, float]:
    mean = float(figures.mean())
    if len(figures) == 1:
        return {"mean": mean, "std": 0.0, "low": mean, "high": mean}
    # Percentiles, as the other methods divide by the spread, which can be zero.
    interval = bootstrap(
        (figures,),
        np.mean,
        n_resamples=_N_RESAMPLES,
        confidence_level=confidence_level,
        method="percentile",
        random_state=0,
    ).confidence_interval
    return {
        "mean": mean,
        "std": float(figures.std(ddof=1)),
        "low": float(interval.low),
        "high": float(interval.high),
    }
