"""Whether another probe data set would give another explanation."""

from __future__ import annotations

from itertools import combinations
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn.utils import check_random_state

from skdict._utils.constraints import Interval
from skdict._utils.labels import encode
from skdict._utils.sklearn_private import validate_params
from skdict._utils.types import Codes, Data, Seed
from skdict.stats import (
    ROUNDING,
    Exchange,
    check_codes,
    encode_groups,
    indicator,
    permutation_p_value,
)


@validate_params(
    {
        "attributions": ["array-like", "sparse matrix"],
        "probe_set": ["array-like"],
        "groups": ["array-like", None],
        "max_concepts": [Interval(Integral, 1, None, closed="left")],
        "n_permutations": [Interval(Integral, 0, None, closed="left")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def compare_probe_sets(
    attributions: Codes,
    probe_set: Data,
    *,
    groups: Data | None = None,
    max_concepts: int = 32,
    n_permutations: int = 100,
    random_state: Seed = None,
) -> pd.DataFrame:
    r"""Compare the explanations that several sets of rows give of the same head.

    Importances are means over the rows on which a head is probed. Other rows, of
    another plate, laboratory or cell line, may name other concepts.

    Parameters
    ----------
    attributions : {array-like, sparse} of shape (n_samples, n_components)
        From :func:`concept_importance`, for the rows of all sets together.

    probe_set : array-like of shape (n_samples,)
        The set of each row, of at least two sets.

    groups : array-like of shape (n_samples,), default=None
        Groups of rows that are not independent, such as wells or images. All rows of a
        group are of one set, and the null exchanges whole groups.

    max_concepts : int, default=32
        Number of the most important concepts of each set that are compared.

    n_permutations : int, default=100
        Number of exchanges of the sets for the null. 0 gives no null.

    random_state : int, RandomState instance or None, default=None
        Seed of the exchanges.

    Returns
    -------
    table : DataFrame
        One row for each pair of sets. Columns:

        - `first`, `second`: the sets.
        - `rank_correlation`: Spearman's correlation of the importances of the concepts
          that are among the `max_concepts` of either set.
        - `overlap`: number of concepts that are among the `max_concepts` of both sets,
          over those that are among those of either.
        - with the suffix `_null`, the mean of the same figure if rows are exchanged
          between all sets: how well explanations agree that differ by their sample
          alone.
        - with the suffix `_p`, the fraction of the exchanges in which the sets agree as
          little: small if the explanations differ by more than their sample.

    Raises
    ------
    ValueError
        If there is a single set, or if a group lies in two of them.

    See Also
    --------
    concept_importance : Makes the attributions.
    learnability : Whether concepts are easier to learn than the classes.

    Notes
    -----
    Ramaswamy et al. [1]_ found that explanations by concepts depend on the probe data
    set so much that they should be made with one that resembles the training data of
    the head. A mean over the null that is itself small says that there are too few
    rows for a stable explanation.

    References
    ----------
    .. [1] V. V. Ramaswamy et al. "Overlooked factors in concept-based explanations."
       arXiv:2207.09615, 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from skdict.concepts import compare_probe_sets
    >>> rng = np.random.default_rng(0)
    >>> plate = np.repeat(["p1", "p2", "p3"], 50)
    >>> attributions = rng.normal(size=(150, 20)) + np.arange(20)
    >>> attributions[plate == "p3", :10] *= 3
    >>> table = compare_probe_sets(
    ...     attributions, plate, max_concepts=10, random_state=0
    ... )
    >>> table[["first", "second", "overlap", "overlap_p"]].round(2)
      first second  overlap  overlap_p
    0    p1     p2     1.00       1.00
    1    p1     p3     0.33       0.01
    2    p2     p3     0.33       0.01
    """
    table = sp.csr_array(check_codes(attributions, "attributions"), dtype=np.float64)
    n_samples = table.shape[0]
    names, ids = encode(probe_set, "probe_set", n_samples)
    if len(names) < 2:
        raise ValueError(f"probe_set has the value {names[0]} for all rows.")
    group_ids = encode_groups(groups, n_samples, {"probe_set": probe_set})
    pairs = list(combinations(range(len(names)), 2))

    def figures(of_rows: np.ndarray) -> np.ndarray:
        means = (indicator(of_rows, len(names)).T @ table).toarray()
        means /= np.bincount(of_rows, minlength=len(names))[:, None]
        tops = [_top(own, max_concepts) for own in means]
        return np.array([_agreement(means[[a, b]], tops[a], tops[b]) for a, b in pairs])

    observed = figures(ids)
    columns: dict[str, Any] = {
        "first": names[[a for a, _ in pairs]],
        "second": names[[b for _, b in pairs]],
    }
    null = None
    if n_permutations:
        rng = check_random_state(random_state)
        exchange = Exchange(None, group_ids)
        drawn = exchange.permuted(ids, n_permutations, rng)
        null = np.stack([figures(permuted) for permuted in drawn])
    for i, name in enumerate(("rank_correlation", "overlap")):
        columns[name] = observed[:, i]
        if null is not None:
            columns[f"{name}_null"] = null[:, :, i].mean(axis=0)
            columns[f"{name}_p"] = permutation_p_value(
                -null[:, :, i], -observed[:, i], ROUNDING
            )
    return pd.DataFrame(columns)


def _agreement(
    means: np.ndarray, first: np.ndarray, second: np.ndarray
) -> tuple[float, float]:
    """Rank correlation and overlap of the most important concepts of two sets."""
    either = np.union1d(first, second)
    if not len(either):
        return 1.0, 1.0
    a, b = (_centred_ranks(own) for own in means[:, either])
    size = np.sqrt((a @ a) * (b @ b))
    correlation = (a @ b) / size if size > 0 else 0.0
    n_both = len(first) + len(second) - len(either)
    return correlation, n_both / len(either)


def _centred_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks of a few values less their mean; equal values share theirs."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts + 1) / 2)[places] - (len(values) - 1) / 2


def _top(means: np.ndarray, max_concepts: int) -> np.ndarray:
    sizes = np.abs(means)
    n = min(max_concepts, len(sizes))
    # Only the largest have to be found; of equal ones, any.
    order = np.argpartition(-sizes, n - 1)[:n]
    return order[means[order] != 0]
