"""Rows from which an explanation of a feature is written, and by which it is scored."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn.utils import check_random_state
from sklearn.utils.random import sample_without_replacement

from skdict._utils.arrays import blocks, unit_csr, unit_rows
from skdict._utils.constraints import Interval
from skdict._utils.labels import encode
from skdict._utils.sklearn_private import validate_params
from skdict._utils.types import Codes, Data, Seed
from skdict.stats import check_codes, find_active

from ._edit import FEATURES
from ._explain import split_groups
from ._features import as_features

# Number of entries of the similarities of a block of features to all rows.
_BLOCK_ENTRIES = 2**23

ROLES = ("top", "active", "near miss", "inactive", "same group")


@validate_params(
    {
        "codes": ["array-like", "sparse matrix"],
        "features": [*FEATURES, None],
        "X": ["array-like", "sparse matrix", None],
        "groups": ["array-like", None],
        "n_examples": [Interval(Integral, 1, None, closed="left")],
        "activity_threshold": [Interval(Real, 0, None, closed="left")],
        "test_size": [Interval(Real, 0, 1, closed="neither")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def choose_examples(
    codes: Codes,
    *,
    features: Data | None = None,
    X: Data | None = None,
    groups: Data | None = None,
    n_examples: int = 8,
    activity_threshold: float = 0.0,
    test_size: float = 0.5,
    random_state: Seed = None,
) -> pd.DataFrame:
    """Choose rows that show what a feature responds to, and what it does not.

    Explanations that are written from the strongest rows alone say too much: they fit
    many rows in which the feature is not active. Near misses show the limits [1]_.
    Explanations are written from one part of the rows and scored by the other.

    Parameters
    ----------
    codes : {array-like, sparse matrix or array} of shape (n_samples, n_components)
        Codes of the samples. A sparse input is never densified.

    features : int, array-like of int or mask, default=None
        Features to choose rows for. None means all that are active in any sample.

    X : {array-like, sparse matrix or array} of shape (n_samples, n_features), \
            default=None
        Embeddings of the samples, by which near misses are similar. None means the
        codes.

    groups : array-like of shape (n_samples,), default=None
        Samples that belong together, such as the tokens of an image. No group is in
        both parts. Only with groups there are rows of the role "same group".

    n_examples : int, default=8
        Largest number of rows of each role, in each part.

    activity_threshold : float, default=0.0
        A feature is active in a sample if ``|z| > activity_threshold``.

    test_size : float, default=0.5
        Fraction of the groups, or of the rows if there are none, that score.

    random_state : int, RandomState instance or None, default=None
        Seed of the split and of the draws.

    Returns
    -------
    examples : DataFrame
        One row for each example. Columns:

        - `feature`: index of the feature.
        - `part`: "explain" or "score".
        - `role`: "top" for rows with the strongest activations; "active" for random
          ones of the other active rows, spread evenly over their ranks; "near miss" for
          inactive rows that are most similar to the mean of the chosen active rows;
          "inactive" for random ones of the other inactive rows; "same group" for random
          inactive rows out of the groups of the chosen active rows.
        - `row`: index of the sample.
        - `activation`: its code.
        - `is_active`: whether the feature is active there.

        There are fewer rows of a role where there are not enough samples.

    Raises
    ------
    ValueError
        If `codes` or `X` is empty or holds NaN or infinity, if lengths differ, if a
        feature does not exist, or if there are fewer than two groups.

    See Also
    --------
    score_explanations : Scores explanations by such examples.
    skdict.images.strongest_patches : The strongest tokens over images.

    Notes
    -----
    Near misses take the time: every row is compared with each feature. For 100 features
    of 100,000 samples with 32 non-zeros in 8,192 columns that is about 3 seconds.

    References
    ----------
    .. [1] G. Paulo et al. "Automatically interpreting millions of features in large
       language models." ICML 2025. arXiv:2410.13928.

    Examples
    --------
    >>> import numpy as np
    >>> from skdict.concepts import choose_examples
    >>> rng = np.random.default_rng(0)
    >>> codes = rng.random((200, 5)) * (rng.random((200, 5)) < 0.2)
    >>> examples = choose_examples(codes, features=[1], n_examples=3, random_state=0)
    >>> examples.groupby("part")["role"].value_counts().unstack()
    role     active  inactive  near miss  top
    part
    explain       3         3          3    3
    score         3         3          3    3
    """
    codes = check_codes(codes)
    n_samples, n_components = codes.shape
    active = sp.csc_array(find_active(codes, activity_threshold))
    if features is None:
        chosen = np.flatnonzero(np.diff(active.indptr))
    else:
        chosen = as_features(features, n_components)
    group_ids = None if groups is None else encode(groups, "groups", n_samples)[1]
    rows_of_similarity = codes if X is None else check_codes(X, "X")
    if rows_of_similarity.shape[0] != n_samples:
        raise ValueError(
            f"X has {rows_of_similarity.shape[0]} rows, but codes has {n_samples}."
        )
    rng = check_random_state(random_state)
    parts = split_groups(n_samples, group_ids, test_size, rng)
    found = []
    for part, rows in zip(("explain", "score"), parts, strict=True):
        found += list(
            _examples_of_part(
                part,
                rows,
                sp.csc_array(codes[rows]) if sp.issparse(codes) else codes[rows],
                active[rows],
                rows_of_similarity[rows],
                chosen,
                None if group_ids is None else group_ids[rows],
                int(n_examples),
                rng.randint(2**31 - 1, size=len(chosen)),
            )
        )
    if not found:
        columns = ["feature", "part", "role", "row", "activation", "is_active"]
        return pd.DataFrame(columns=columns)
    place = {feature: i for i, feature in enumerate(chosen.tolist())}
    # Both parts of a feature together, in the order in which features were named.
    found.sort(key=lambda table: place[int(table["feature"].iloc[0])])
    return pd.concat(found, ignore_index=True)


def _examples_of_part(
    part: str,
    rows: np.ndarray,
    codes: Any,
    active: Any,
    like: Any,
    features: np.ndarray,
    group_ids: np.ndarray | None,
    n: int,
    feature_seeds: np.ndarray,
) -> Iterator[pd.DataFrame]:
    active = sp.csc_array(active)
    unit = unit_csr(like) if sp.issparse(like) else unit_rows(like)[0]
    for block in blocks(len(features), len(rows), _BLOCK_ENTRIES):
        own = features[block]
        # A seed for each feature, so that draws do not depend on the blocks.
        seeds = [np.random.RandomState(seed) for seed in feature_seeds[block]]
        roles = [
            _active_roles(codes, active, feature, n, rng)
            for feature, rng in zip(own, seeds, strict=True)
        ]
        similar = _similarities(unit, roles)
        for feature, chosen, likeness, rng in zip(
            own, roles, similar.T, seeds, strict=True
        ):
            firing = active.indices[active.indptr[feature] : active.indptr[feature + 1]]
            idle = np.ones(len(rows), bool)
            idle[firing] = False
            shown = np.concatenate(list(chosen.values()))
            n_near = min(n, int(idle.sum())) if len(shown) else 0
            likeness = np.where(idle, likeness, -np.inf)
            chosen["near miss"] = _largest(likeness, n_near)
            rest = idle.copy()
            rest[chosen["near miss"]] = False
            chosen["inactive"] = _draw(np.flatnonzero(rest), n, rng)
            if group_ids is not None:
                same = idle & np.isin(group_ids, group_ids[shown])
                chosen["same group"] = _draw(np.flatnonzero(same), n, rng)
            places = np.concatenate(list(chosen.values())).astype(np.intp)
            values = codes[:, [feature]]
            values = values.toarray() if sp.issparse(values) else values
            if not len(places):
                continue
            yield pd.DataFrame(
                {
                    "feature": feature,
                    "part": part,
                    "role": np.repeat([*chosen], [*map(len, chosen.values())]),
                    "row": rows[places],
                    "activation": np.ravel(values)[places],
                    "is_active": ~idle[places],
                }
            )


def _active_roles(
    codes: Any, active: Any, feature: int, n: int, rng: np.random.RandomState
) -> dict[str, np.ndarray]:
    firing = active.indices[active.indptr[feature] : active.indptr[feature + 1]]
    values = codes[:, [feature]]
    values = np.ravel(values.toarray() if sp.issparse(values) else values)
    strength = np.abs(values[firing].astype(np.float64))
    ranked = firing[np.argsort(-strength, kind="stable")]
    others = ranked[n:]
    # One from each of n ranges of ranks, so that weak activations occur as well.
    edges = np.linspace(0, len(others), min(n, len(others)) + 1).round().astype(int)
    starts, ends = edges[:-1], edges[1:]
    drawn = starts + (rng.random_sample(len(starts)) * (ends - starts)).astype(int)
    return {"top": ranked[:n], "active": others[drawn]}


def _similarities(unit: Any, roles: list[dict[str, np.ndarray]]) -> np.ndarray:
    """Cosine of every row with the mean of the active rows, for each feature."""
    prototypes = np.zeros((unit.shape[1], len(roles)))
    for i, chosen in enumerate(roles):
        shown = np.concatenate(list(chosen.values()))
        if len(shown):
            prototypes[:, i] = np.asarray(unit[shown].mean(axis=0)).ravel()
    return np.asarray(unit @ prototypes)


def _largest(values: np.ndarray, n: int) -> np.ndarray:
    if n == 0:
        return np.empty(0, np.intp)
    largest = np.argpartition(-values, n - 1)[:n]
    return largest[np.argsort(-values[largest], kind="stable")]


def _draw(rows: np.ndarray, n: int, rng: np.random.RandomState) -> np.ndarray:
    n = min(n, len(rows))
    return rows[sample_without_replacement(len(rows), n, random_state=rng)]
