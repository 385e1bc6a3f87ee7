"""Retrieval of the replicates of a perturbation."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from sklearn.utils import check_random_state

from skdict._utils.constraints import Interval
from skdict._utils.extras import optional
from skdict._utils.labels import as_labels, as_mask
from skdict._utils.sklearn_private import StrOptions, validate_params
from skdict._utils.types import Data, Seed

from ._profiles import UnitProfiles, named_profiles

# Cosines that differ by less are ties, whose order is drawn: copairs works in float32.
_TIE = 4e-6
# Averages of the same precisions in float32 and in float64 differ by less.
_ROUNDING = 1e-5


@validate_params(
    {
        "profiles": ["array-like", "sparse matrix", dict],
        "y": ["array-like"],
        "control": ["array-like", None],
        "batch": ["array-like", None],
        "positives": [StrOptions({"any", "other_batches"})],
        "negatives": [StrOptions({"any", "same_batch"})],
        "null_size": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def replicate_retrieval(
    profiles: Data | dict[str, Data],
    y: Data,
    *,
    control: Data | None = None,
    batch: Data | None = None,
    positives: str = "any",
    negatives: str = "any",
    null_size: int = 10_000,
    random_state: Seed = None,
) -> pd.DataFrame:
    """Measure whether the replicates of a perturbation find each other.

    Each replicate ranks the other rows by their cosine with it. The mean average
    precision of a perturbation is high if its replicates come first [1]_. The package
    copairs computes it (extra "profiles"). Give the profiles of raw embeddings, codes
    and reconstructions together to see whether a dictionary keeps the biology.

    Parameters
    ----------
    profiles : {array-like, sparse matrix or array} of shape (n_samples, n_features), \
            or dict of such tables by name
        One row for each replicate, for instance for each well, from
        :func:`aggregate`. A sparse table is never densified.

    y : array-like of shape (n_samples,)
        Perturbation of each row.

    control : array-like of bool of shape (n_samples,), default=None
        Control rows. If given, the replicates of a perturbation must be closer to each
        other than to the controls (does it do anything?); without it, closer than to
        all other perturbations (is it distinct?).

    batch : array-like of shape (n_samples,), default=None
        Experimental batch or plate, for `positives` and `negatives`.

    positives : {"any", "other_batches"}, default="any"
        Which replicates are to be found: all, or those of other batches. Replicates of
        one batch may resemble each other for what the batch has in common.

    negatives : {"any", "same_batch"}, default="any"
        Which rows they are ranked against: all, or those of the same batch, which share
        what the batch has in common.

    null_size : int, default=10_000
        Number of random rankings for the p-values; none is below its reciprocal.

    random_state : int, RandomState instance or None, default=None
        Seed of the random rankings and of the order of ties.

    Returns
    -------
    retrieval : DataFrame
        One row for each table of profiles and each perturbation, in the order of
        ``np.unique(y)``; perturbations that have no pair of replicates are left out.
        Columns:

        - `profiles`: name of the table ("profiles" if it has none).
        - `class`: the perturbation.
        - `n_queries`: number of replicates that have another one to find.
        - `average_precision`: their mean average precision.
        - `normalized_average_precision`: the same on a scale on which a random ranking
          has 0 and a perfect one 1.
        - `p_value`: probability of a precision at least as high in a random ranking.
        - `q_value`: Benjamini-Hochberg, over the perturbations of the table.

    Raises
    ------
    ImportError
        If copairs is missing.
    ValueError
        If lengths differ, if labels are missing, if `positives` or `negatives` speaks
        of batches and there is no `batch`, if `control` marks no row or all rows, or if
        there is no pair of replicates or nothing to rank them against.

    See Also
    --------
    aggregate : Makes the profiles.
    relationship_recall : Whether related perturbations are near each other.

    Notes
    -----
    The p-values are those of ``copairs.map.mean_average_precision``, with three
    precautions. Rankings at random that reach the observed precision count against it,
    not only those that exceed it: with few rows even a perfect ranking may come by
    chance. Cosines that differ by less than 4e-6, for instance of codes with the same
    single feature, are ties, whose order is drawn; copairs would put replicates first.
    And the rankings are drawn anew, not read from a folder in the home directory.

    The null supposes that all rows were equally likely to be ranked first. It ignores
    that the wells of one plate resemble each other: pass `batch` and choose
    ``positives="other_batches"`` or ``negatives="same_batch"`` where they do.

    References
    ----------
    .. [1] A. Kalinin et al. "A versatile information retrieval framework for evaluating
       profile strength and similarity." Nature Communications 16 (2025).

    Examples
    --------
    >>> import numpy as np
    >>> from skdict.evaluation import replicate_retrieval
    >>> rng = np.random.default_rng(0)
    >>> drug = np.repeat(["a", "b", "none"], 4)
    >>> wells = rng.normal(size=(12, 20))
    >>> wells[:4] += 2  # drug b does nothing
    >>> retrieval = replicate_retrieval(
    ...     wells, drug, control=drug == "none", null_size=1000, random_state=0
    ... )
    >>> (retrieval["p_value"] < 0.05).tolist()
    [True, False]
    """
    if batch is None and (positives != "any" or negatives != "any"):
        raise ValueError(
            f"positives={positives!r} and negatives={negatives!r} need batch, the "
            "batch of each row."
        )
    units = named_profiles(profiles)
    n_rows = len(next(iter(units.values())))
    classes, ids = np.unique(as_labels(y, "y", n_rows), return_inverse=True)
    columns: dict[str, np.ndarray] = {"perturbation": ids}
    if batch is not None:
        labels = as_labels(batch, "batch", n_rows)
        columns["batch"] = np.unique(labels, return_inverse=True)[1]
    if control is not None:
        mask = as_mask(control, "control", n_rows)
        if mask.all() or not mask.any():
            raise ValueError(
                f"control marks {mask.sum()} of {n_rows} rows: there is nothing to "
                "rank, or nothing to rank against."
            )
        # Controls find nobody: as perturbations of one row each they have no replicate.
        columns["perturbation"] = np.where(mask, ids.max() + 1 + np.arange(n_rows), ids)
        columns["control"] = mask.astype(np.int64)
    _check_pairs(columns["perturbation"])
    rng = check_random_state(random_state)
    seed, salt = (int(number) for number in rng.randint(2**31 - 1, size=2))
    rules = {
        "pos_sameby": ["perturbation"],
        "pos_diffby": ["batch"] if positives == "other_batches" else [],
        "neg_sameby": ["batch"] if negatives == "same_batch" else [],
        # Rows of which one is a control belong to different perturbations, too.
        "neg_diffby": ["perturbation"] if control is None else ["control"],
    }
    tables = [
        _retrieve(
            name, unit, pd.DataFrame(columns), rules, classes, null_size, seed, salt
        )
        for name, unit in units.items()
    ]
    return pd.concat(tables, ignore_index=True)


def _check_pairs(perturbations: np.ndarray) -> None:
    counts = np.unique(perturbations, return_counts=True)[1]
    if counts.max() < 2:
        raise ValueError("No perturbation has two rows: there is nothing to retrieve.")


def _retrieve(
    name: str,
    unit: UnitProfiles,
    columns: pd.DataFrame,
    rules: dict[str, list[str]],
    classes: np.ndarray,
    null_size: int,
    seed: int,
    salt: int,
) -> pd.DataFrame:
    copairs = optional("copairs.map", "Replicate retrieval", "profiles")
    matching = optional("copairs.matching", "Replicate retrieval", "profiles")
    # copairs gets the numbers of the rows in place of the rows, and the cosine of two
    # rows by their numbers: it would make sparse rows dense and divide zero rows by 0.
    numbers = np.arange(len(unit), dtype=np.int64)[:, None]
    try:
        found = copairs.average_precision(
            columns,
            numbers,
            **rules,
            distance=_cosine_of_numbers(unit, salt),
            progress_bar=False,
        )
    except matching.UnpairedException as error:
        raise ValueError(
            "There is no pair of replicates, or nothing to rank them against: check "
            "y, batch, control, positives and negatives."
        ) from error
    found = found[(found["n_pos_pairs"] > 0) & ~found["average_precision"].isna()]
    # Draws that equal the observed precision must count, too.
    lowered = found.assign(average_precision=found["average_precision"] - _ROUNDING)
    with TemporaryDirectory() as folder:
        # The rankings that copairs keeps depend on what was asked for before.
        scores = copairs.mean_average_precision(
            lowered,
            ["perturbation"],
            null_size=null_size,
            threshold=0.05,
            seed=seed,
            progress_bar=False,
            cache_dir=folder,
        ).sort_values("perturbation")
    unit.forget()
    queries = found.groupby("perturbation").size()
    return pd.DataFrame(
        {
            "profiles": name,
            "class": classes[scores["perturbation"].to_numpy()],
            "n_queries": queries[scores["perturbation"]].to_numpy(),
            "average_precision": scores["mean_average_precision"].to_numpy()
            + _ROUNDING,
            "normalized_average_precision": scores[
                "mean_normalized_average_precision"
            ].to_numpy(),
            "p_value": scores["p_value"].to_numpy(),
            "q_value": scores["corrected_p_value"].to_numpy(),
        }
    )


def _cosine_of_numbers(
    unit: UnitProfiles, salt: int
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Make a function of the numbers of rows; ties are broken by a number per pair."""
    unit.cosines(np.zeros(1, np.intp), np.zeros(1, np.intp))  # once, not in each thread

    def cosine(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        i, j = first[:, 0], second[:, 0]
        low, high = np.minimum(i, j).astype(np.uint64), np.maximum(i, j)
        # copairs asks in threads, in any order: the number depends on the pair alone.
        pair = low * np.uint64(len(unit)) + high.astype(np.uint64) + np.uint64(salt)
        return unit.cosines(i, j) + _TIE * _scrambled(pair)

    return cosine


def _scrambled(numbers: np.ndarray) -> np.ndarray:
    """Turn whole numbers into numbers in [0, 1) that look random (SplitMix64)."""
    with np.errstate(over="ignore"):
        z = numbers * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(11)) / 2.0**53
