"""Recall of known relationships among perturbations."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils import check_random_state

from skdict._utils.constraints import Interval
from skdict._utils.labels import as_labels, encode
from skdict._utils.sklearn_private import validate_params
from skdict._utils.types import Data, Seed
from skdict.stats import ROUNDING, named_columns, permutation_p_value, permutations

from ._profiles import UnitProfiles, named_profiles

# Cosines are counted in bins of this width; 0, 1 and -1 are the centres of bins.
_BIN = 2.0**-19
_N_BINS = 2**20 + 1


@validate_params(
    {
        "profiles": ["array-like", "sparse matrix", dict],
        "y": ["array-like"],
        "pairs": ["array-like", dict],
        "tail": [Interval(Real, 0, 0.5, closed="neither")],
        "batch": ["array-like", None],
        "n_permutations": [Interval(Integral, 0, None, closed="left")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def relationship_recall(
    profiles: Data | dict[str, Data],
    y: Data,
    pairs: Data | dict[str, Data],
    *,
    tail: float = 0.05,
    batch: Data | None = None,
    n_permutations: int = 100,
    random_state: Seed = None,
) -> pd.DataFrame:
    r"""Count the known relationships among perturbations that profiles recover.

    A pair of perturbations is recovered if the cosine of their profiles is extreme:
    among the lowest or the highest 5 % of the cosines of all pairs. Give the profiles
    of raw embeddings, codes and reconstructions together to see whether a dictionary
    keeps the biology.

    Parameters
    ----------
    profiles : array-like of shape (n_perturbations, n_features), or dict of them
        One row for each perturbation, for instance from :func:`aggregate`. Centre or
        whiten embeddings on the controls first: the cosine of rows with a large common
        mean says little. A table may be sparse and is never densified.

    y : array-like of shape (n_perturbations,)
        Name of the perturbation of each row; each occurs once.

    pairs : array-like or DataFrame of shape (n_pairs, 2), or dict of such tables
        Names of perturbations that are known to be related, in the first two columns.
        The order of the two and repeated pairs do not matter. With several tables by
        name, such as CORUM and Reactome, each is counted by itself.

    tail : float, default=0.05
        Fraction of all pairs in each of the two tails.

    batch : array-like of shape (n_perturbations,), default=None
        Under the null hypothesis perturbations are exchanged only inside these, for
        instance the arms of the chromosomes, whose genes look alike for reasons that
        have nothing to do with their function.

    n_permutations : int, default=100
        Number of permutations for the null; 0 omits it.

    random_state : int, RandomState instance or None, default=None
        Seed of the permutations.

    Returns
    -------
    recall : DataFrame
        One row for each table of profiles and each table of pairs. Columns:

        - `profiles`, `pairs`: names of the two tables ("profiles" and "pairs" if they
          have none).
        - `n_pairs`: number of known pairs of which both perturbations are in `y`.
        - `n_unknown`: number of known pairs that are left out because `y` lacks one of
          them, or because both are the same.
        - `recall`: fraction of the known pairs that are in either tail.
        - `recall_low`, `recall_high`: fraction in the lower and in the upper tail.
        - `expected`: ``2 * tail``, the recall of a random pair.
        - `null_mean`, `null_q95`, `p_value`: mean and 95 % quantile of the recall over
          the permutations, and ``(1 + #{null >= recall}) / (1 + n_permutations)``. Only
          with ``n_permutations > 0``.

    Raises
    ------
    ValueError
        If tables differ in their number of rows, if a name occurs twice in `y`, if
        there are fewer than three rows, or if no known pair is among them.

    See Also
    --------
    aggregate : Makes the profiles.
    replicate_retrieval : Whether the replicates of a perturbation find each other.

    Notes
    -----
    The measure is that of the EFAAR benchmarks [1]_. With :math:`F` the distribution
    function of the cosines of all pairs of different rows,

    .. math::

        \mathrm{recall} = \frac{1}{|P|} \sum_{(a, b) \in P}
        [F(\cos_{ab}) \le t] + [F(\cos_{ab}) \ge 1 - t]

    Codes are sparse, so the cosine of many pairs may be exactly 0. If the edge of a
    tail lies among equal cosines, each of these pairs counts by the fraction of them
    that belongs to the tail. The recall of all pairs together is thus ``2 * tail``
    whatever the profiles, and recalls of codes and embeddings can be compared. Cosines
    are equal here if they fall into the same of 2 ** 20 bins.

    Under the null hypothesis the names in `y` are permuted. The pairs of a perturbation
    stay together: a null that draws pairs independently of each other would be too
    narrow, because a few perturbations with many partners and an extreme profile
    decide the recall.

    References
    ----------
    .. [1] S. Celik et al. "Building, benchmarking, and exploring perturbative maps of
       transcriptional and morphological data." PLOS Computational Biology 20 (2024).

    Examples
    --------
    >>> import numpy as np
    >>> from skdict.evaluation import relationship_recall
    >>> rng = np.random.default_rng(0)
    >>> profiles = rng.normal(size=(40, 30))
    >>> profiles[1::2] += profiles[::2]  # each odd gene works with the one before
    >>> genes = [f"gene {i}" for i in range(40)]
    >>> pairs = [(f"gene {i}", f"gene {i + 1}") for i in range(0, 40, 2)]
    >>> recall = relationship_recall(profiles, genes, pairs, random_state=0)
    >>> recall[["n_pairs", "recall", "expected", "p_value"]].round(2)
       n_pairs  recall  expected  p_value
    0       20     1.0       0.1     0.01
    """
    units = named_profiles(profiles)
    n_rows = len(next(iter(units.values())))
    names = as_labels(y, "y", n_rows)
    if n_rows < 3:
        raise ValueError(f"At least 3 perturbations are needed, got {n_rows}.")
    _check_unique(names)
    batch_ids = None if batch is None else encode(batch, "batch", n_rows)[1]
    tables = pairs if isinstance(pairs, dict) else {"": pairs}
    known = {
        name: _find_pairs(table, names, f"pairs[{name!r}]" if name else "pairs")
        for name, table in tables.items()
    }
    rng = check_random_state(random_state)
    # All tables share the permutations: their nulls differ by the profiles only.
    orders = list(permutations(np.arange(n_rows), batch_ids, n_permutations, rng))
    rows = []
    for profile_name, unit in units.items():
        low, high = _tail_weights(unit, tail)
        for pair_name, (ends, n_unknown) in known.items():
            in_low, in_high = (_recall(unit, ends, weight) for weight in (low, high))
            row: dict[str, Any] = {
                "profiles": profile_name,
                "pairs": pair_name or "pairs",
                "n_pairs": len(ends),
                "n_unknown": n_unknown,
                "recall": in_low + in_high,
                "recall_low": in_low,
                "recall_high": in_high,
                "expected": 2 * tail,
            }
            if orders:
                both = low + high
                null = np.array([_recall(unit, order[ends], both) for order in orders])
                row |= {
                    "null_mean": float(null.mean()),
                    "null_q95": float(np.quantile(null, 0.95)),
                    "p_value": float(
                        permutation_p_value(null, row["recall"], ROUNDING)
                    ),
                }
            rows.append(row)
        unit.forget()
    return pd.DataFrame(rows)


def _check_unique(names: np.ndarray) -> None:
    distinct, counts = np.unique(names, return_counts=True)
    if (counts > 1).any():
        raise ValueError(
            f"{(counts > 1).sum()} perturbations have several rows, the first of them "
            f"{distinct[counts > 1][0]}: make one profile of them with aggregate."
        )


def _find_pairs(table: Any, names: np.ndarray, called: str) -> tuple[np.ndarray, int]:
    """Rows of the known pairs, each once, and the number of pairs left out."""
    if hasattr(table, "iloc"):
        columns = [table.iloc[:, i] for i in range(min(2, table.shape[1]))]
    elif hasattr(table, "shape") and hasattr(table, "columns"):  # Arrow or polars
        columns = [*named_columns(table, called).values()][:2]
    else:
        # The letters of a name are no names.
        are_rows = all(hasattr(x, "__len__") and not isinstance(x, str) for x in table)
        same = are_rows and len({len(row) for row in table}) == 1
        columns = list(zip(*table, strict=True))[:2] if same else []
    if len(columns) < 2:
        raise ValueError(f"{called} must have two columns with names of perturbations.")
    place = {name: row for row, name in enumerate(names.tolist())}
    columns = [list(c) if isinstance(c, tuple) else c for c in columns]
    found = [as_labels(column, called).tolist() for column in columns]
    given = {frozenset(pair) for pair in zip(*found, strict=True)}
    ends = [
        sorted(place[name] for name in pair)
        for pair in given
        if len(pair) == 2 and pair <= place.keys()
    ]
    if not ends:
        raise ValueError(
            f"{called} has no pair of two different perturbations that are both in y; "
            f"the first names there are {found[0][:3]}, in y {names[:3].tolist()}."
        )
    return np.array(sorted(ends)), len(given) - len(ends)


def _bins(cosines: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(cosines, -1, 1) / _BIN).astype(np.intp) + _N_BINS // 2


def _tail_weights(unit: UnitProfiles, tail: float) -> tuple[np.ndarray, np.ndarray]:
    """Weight of each bin in the lower and in the upper tail."""
    counts = np.zeros(_N_BINS)
    for cosines in unit.all_cosines():
        counts += np.bincount(_bins(cosines), minlength=_N_BINS)
    size = tail * counts.sum()
    return _weights(counts, size), _weights(counts[::-1], size)[::-1]


def _weights(counts: np.ndarray, size: float) -> np.ndarray:
    """Take bins in their order until ``size`` pairs are taken, the last in part."""
    before = np.concatenate(([0.0], np.cumsum(counts)[:-1]))
    taken = np.clip(size - before, 0, counts)
    return np.divide(taken, counts, out=np.zeros_like(taken), where=counts > 0)


def _recall(unit: UnitProfiles, ends: np.ndarray, weight: np.ndarray) -> float:
    return float(weight[_bins(unit.cosines(ends[:, 0], ends[:, 1]))].mean())
