"""Is a dictionary better than its baselines, beyond the spread of seeds?"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd

from skdict._utils.constraints import Interval
from skdict._utils.sklearn_private import validate_params
from skdict.stats import ROUNDING, half_width

# What baseline_dictionaries may call a baseline.
_BASELINES = (
    "random atoms",
    "data atoms",
    "PCA",
    "ICA",
    "MiniBatchDictionaryLearning",
    "neurons",
    "frozen decoder",
    "soft-frozen decoder",
    "frozen encoder",
)
# Measures of compare_dictionaries by which one dictionary is better than another, and
# those of which less is better.
_MEASURES = (
    "cosine",
    "explained_variance",
    "average_selectivity",
    "maximum_selectivity",
    "probe_codes",
    "probe_reconstruction",
)
_LESS_IS_BETTER = {"dead_fraction", "coherence", "fit_seconds", "encode_seconds"}


@validate_params(
    {
        "runs": [pd.DataFrame],
        "baselines": [list, tuple, None],
        "measures": [list, tuple, None],
        "confidence_level": [Interval(Real, 0, 1, closed="neither")],
    },
    prefer_skip_nested_validation=True,
)
def beats_baselines(
    runs: pd.DataFrame,
    *,
    baselines: Sequence[str] | None = None,
    measures: Sequence[str] | None = None,
    confidence_level: float = 0.95,
) -> pd.DataFrame:
    r"""Say which dictionaries beat all baselines, beyond the spread of seeds.

    Parameters
    ----------
    runs : DataFrame
        One row for each dictionary, fold and seed, from :func:`compare_dictionaries`,
        with the dictionaries of interest and their baselines.

    baselines : list of str, default=None
        Names of the baselines. None means all names that
        :func:`baseline_dictionaries` gives; the others are the dictionaries of
        interest.

    measures : list of str, default=None
        Columns to compare. None means those of `cosine`, `explained_variance`,
        `average_selectivity`, `maximum_selectivity`, `probe_codes` and
        `probe_reconstruction` that `runs` has. More is better, but for
        `dead_fraction`, `coherence`, `fit_seconds` and `encode_seconds`.

    confidence_level : float, default=0.95
        Confidence level of the interval of a difference.

    Returns
    -------
    table : DataFrame
        One row for each dictionary, measure and baseline. Columns:

        - `dictionary`, `measure`, `baseline`.
        - `mean`, `baseline_mean`: over all runs.
        - `difference`: mean difference of paired runs, in favour of the dictionary if
          positive.
        - `low`, `high`: interval of the difference over the seeds.
        - `won`: fraction of the paired runs in which the dictionary is better.
        - `n_seeds`: number of seeds.
        - `beats`: whether `low` is above 0.
        - `beats_all`: whether `beats` is true of all baselines; the same in the rows of
          a dictionary and measure.

    Raises
    ------
    ValueError
        If there are no runs of a baseline or of another dictionary, if all runs have
        the same seed, if a measure is missing or infinite, or if a dictionary and a
        baseline have no fold in common.

    See Also
    --------
    baseline_dictionaries : Makes the baselines.
    summary_table : Mean and spread of each dictionary by itself.

    Notes
    -----
    Runs are paired by fold and seed, because they have the same rows, and a frozen
    baseline starts from the same atoms. With the mean :math:`d_s` of the differences of
    seed :math:`s` over the folds, the interval is that of Student's t,

    .. math::

        \bar d \pm t_{S - 1} \sqrt{\frac{1}{S (S - 1)} \sum_s (d_s - \bar d)^2}.

    A dictionary or baseline without a `random_state` has one run in each fold, with
    which all seeds of the other are paired. If neither has one, the interval is the
    difference itself. The folds are the same for all seeds: the interval says whether
    another seed could turn the result round, not how it would be on new data.

    To beat all baselines is to beat the strongest, so the level needs no correction for
    their number.

    Examples
    --------
    >>> import pandas as pd
    >>> from skdict.evaluation import beats_baselines
    >>> runs = pd.DataFrame(
    ...     {
    ...         "dictionary": ["TopKSAE"] * 3 + ["frozen decoder"] * 3 + ["PCA"] * 3,
    ...         "seed": [0, 1, 2] * 3,
    ...         "fold": 0,
    ...         "cosine": [0.80, 0.81, 0.82, 0.79, 0.82, 0.80, 0.5, 0.5, 0.5],
    ...     }
    ... )
    >>> table = beats_baselines(runs)
    >>> table[["baseline", "difference", "beats", "beats_all"]].round(3)
             baseline  difference  beats  beats_all
    0  frozen decoder       0.007  False      False
    1             PCA       0.310   True      False
    """
    lacking = {"dictionary", "seed", "fold"} - {*runs}
    if lacking:
        raise ValueError(f"runs lacks the columns {sorted(lacking)}; it has {[*runs]}.")
    names = [*dict.fromkeys(runs["dictionary"])]
    wanted = _BASELINES if baselines is None else baselines
    absent = [] if baselines is None else [n for n in baselines if n not in names]
    if absent:
        raise ValueError(f"There are no runs of the baselines {absent}, only {names}.")
    beside = [name for name in names if name in wanted]
    own = [name for name in names if name not in wanted]
    if not beside or not own:
        missing = "no baseline" if not beside else "only baselines"
        raise ValueError(
            f"The runs hold {missing}: their dictionaries are {names}. Add those of "
            "baseline_dictionaries, or name the baselines."
        )
    if runs["seed"].nunique(dropna=False) < 2:
        raise ValueError(
            "All runs have the same seed, so that seeds have no spread: compare with "
            "at least two."
        )
    of_name = dict(list(runs.groupby("dictionary", sort=False, observed=True)))
    rows = []
    for name in own:
        for measure in _check_measures(runs, measures):
            pairs = [
                {"dictionary": name, "measure": measure, "baseline": baseline}
                | _compare(of_name[name], of_name[baseline], measure, confidence_level)
                for baseline in beside
                if of_name[baseline][measure].notna().any()
                and of_name[name][measure].notna().any()
            ]
            beats_all = bool(pairs) and all(pair["beats"] for pair in pairs)
            rows += [pair | {"beats_all": beats_all} for pair in pairs]
    if not rows:
        raise ValueError(
            "No measure has values for both a dictionary and a baseline, so that "
            "nothing can be compared."
        )
    return pd.DataFrame(rows)


def _check_measures(runs: pd.DataFrame, measures: Sequence[str] | None) -> list[str]:
    if measures is None:
        measures = [measure for measure in _MEASURES if measure in runs]
    lacking = [measure for measure in measures if measure not in runs]
    if lacking or not measures:
        raise ValueError(f"runs lacks the measures {lacking}; it has {[*runs]}.")
    for measure in measures:
        try:
            values = runs[measure].astype(np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"The measure {measure!r} must hold numbers.") from error
        if np.isinf(values).any():
            raise ValueError(f"The measure {measure!r} is infinite in some runs.")
    return [*measures]


def _compare(
    own: pd.DataFrame, other: pd.DataFrame, measure: str, confidence_level: float
) -> dict[str, Any]:
    """Compare the runs of a dictionary with those of a baseline."""
    mine, theirs = (
        runs[["seed", "fold", measure]].dropna(subset=[measure])
        for runs in (own, other)
    )
    # One without a random_state has one run in a fold, whose seed says nothing.
    keys = ["fold"]
    if min(mine["seed"].nunique(), theirs["seed"].nunique()) > 1:
        keys.append("seed")
    pairs = mine.merge(theirs, on=keys, suffixes=("", "_baseline"))
    if pairs.empty:
        raise ValueError(
            f"No run of {own['dictionary'].iloc[0]!r} has the {' and the '.join(keys)} "
            f"of one of {other['dictionary'].iloc[0]!r}: compare them in one call."
        )
    if "seed_baseline" in pairs and theirs["seed"].nunique() > 1:
        pairs["seed"] = pairs["seed_baseline"]
    sign = -1.0 if measure in _LESS_IS_BETTER else 1.0
    pairs["difference"] = sign * (pairs[measure] - pairs[f"{measure}_baseline"])
    of_seeds = pairs.groupby("seed", dropna=False)["difference"].mean().to_numpy()
    mean = float(of_seeds.mean())
    half = half_width(of_seeds, confidence_level)
    return {
        "mean": float(mine[measure].mean()),
        "baseline_mean": float(theirs[measure].mean()),
        "difference": mean,
        "low": mean - half,
        "high": mean + half,
        "won": float((pairs["difference"] > 0).mean()),
        "n_seeds": len(of_seeds),
        "beats": mean - half > ROUNDING,
    }
