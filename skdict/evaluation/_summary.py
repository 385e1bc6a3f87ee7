"""Means, standard deviations and bootstrap intervals of runs."""

from __future__ import annotations

from numbers import Real

import numpy as np
import pandas as pd

from skdict._utils.constraints import Interval
from skdict._utils.sklearn_private import validate_params
from skdict.stats import mean_interval

# Columns that are not measures, but say which run it is and how its layer was chosen.
_NOT_MEASURES = {"dictionary", "layer", "seed", "fold", "inner_probe_x", "n_features"}


@validate_params(
    {
        "runs": [pd.DataFrame],
        "by": [str, list],
        "confidence_level": [Interval(Real, 0, 1, closed="neither")],
    },
    prefer_skip_nested_validation=True,
)
def summary_table(
    runs: pd.DataFrame,
    *,
    by: str | list[str] = "dictionary",
    confidence_level: float = 0.95,
) -> pd.DataFrame:
    """Summarise runs: mean, standard deviation and bootstrap interval of every measure.

    Parameters
    ----------
    runs : DataFrame
        One row for each run, from :func:`compare_dictionaries` or
        :func:`sweep_layers`; rows of several calls may be concatenated. All columns
        of numbers are measures, except those in `by` and those that say which run it
        is (`dictionary`, `layer`, `seed`, `fold`), what its layer scored in the inner
        folds (`inner_probe_x`) or how wide its model is (`n_features`).

    by : str or list of str, default="dictionary"
        Columns whose values make the rows, for instance "layer", or
        ``["dictionary", "seed"]``.

    confidence_level : float, default=0.95
        Confidence level of the interval.

    Returns
    -------
    table : DataFrame
        One row for each value of `by` and each measure, with the columns

        - those named in `by`, and `measure`;
        - `mean` and `std` over the runs (``n - 1`` in the denominator; 0 for one run);
        - `low` and `high`: percentile bootstrap interval of the mean (both the mean
          for one run);
        - `n_runs`: number of runs that have the measure; the others have NaN;
        - `refitted`, if `runs` has this column: "yes" if the runs fitted all steps of
          their pipelines, "no" if they fitted none, because all are frozen, and
          otherwise "in part".

    Raises
    ------
    ValueError
        If there are no runs, no column `by` or no measures.

    See Also
    --------
    compare_dictionaries : Makes the runs.

    Notes
    -----
    The interval resamples runs. Runs of different folds share most of their training
    rows, and runs of different seeds share all of them. The interval therefore says how
    much the mean varies between such runs, not how far it may be off on new data.

    Examples
    --------
    >>> import pandas as pd
    >>> from skdict.evaluation import summary_table
    >>> runs = pd.DataFrame({"dictionary": "a", "seed": range(3), "cosine": [5, 6, 7]})
    >>> summary_table(runs)[["dictionary", "measure", "mean", "std", "n_runs"]]
      dictionary measure  mean  std  n_runs
    0          a  cosine   6.0  1.0       3
    """
    keys = [by] if isinstance(by, str) else by
    if not len(runs):
        raise ValueError("There are no runs to summarise.")
    lacking = [key for key in keys if key not in runs]
    if lacking:
        raise ValueError(f"runs lacks the columns {lacking}; it has {[*runs]}.")
    numbers = runs.select_dtypes("number").columns
    measures = [name for name in numbers if name not in _NOT_MEASURES | {*keys}]
    if not measures:
        raise ValueError(f"runs has no measures, only the columns {[*runs]}.")
    rows = []
    for values, own in runs.groupby(keys, sort=False, dropna=False, observed=True):
        said = _refitted(own["refitted"]) if "refitted" in own else {}
        for measure in measures:
            figures = own[measure].dropna().to_numpy()
            if figures.size:
                rows.append(
                    dict(zip(keys, values, strict=True))
                    | {"measure": measure}
                    | _spread(figures, confidence_level)
                    | {"n_runs": figures.size}
                    | said
                )
    return pd.DataFrame(rows)


def _refitted(answers: pd.Series) -> dict[str, str]:
    return {"refitted": answers.iloc[0] if answers.nunique() == 1 else "in part"}


def _spread(figures: np.ndarray, confidence_level: float) -> dict[str, float]:
    low, high = mean_interval(figures, confidence_level)
    std = float(figures.std(ddof=1)) if len(figures) > 1 else 0.0
    return {"mean": float(figures.mean()), "std": std, "low": low, "high": high}
