"""What each level of a Matryoshka dictionary holds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from skdict._utils.sklearn_private import HasMethods, validate_params
from skdict._utils.types import Data, Seed
from skdict.metrics import (
    dead_feature_fraction,
    explained_variance,
    feature_density,
    mean_coherence,
    mutual_coherence,
)


@validate_params(
    {
        "estimator": [HasMethods(["prefix", "transform"])],
        "X": ["array-like"],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def prefix_report(
    estimator: Any, X: Data, *, random_state: Seed = None
) -> pd.DataFrame:
    r"""Measure every level of a Matryoshka dictionary as a dictionary by itself.

    The first atoms of a Matryoshka dictionary must rebuild the rows alone. They are
    fewer than the features of the rows, so an atom may take up a part of a finer
    feature that occurs together with its own, which is called hedging [1]_.

    Parameters
    ----------
    estimator : MatryoshkaSAE
        Fitted dictionary.

    X : array-like of shape (n_samples, n_features)
        Rows that it has not learned from.

    random_state : int, RandomState instance or None, default=None
        Seed of the random atoms of the null.

    Returns
    -------
    levels : DataFrame
        One row for each level, from the fewest atoms to all of them. Columns:

        - `n_components`: number of atoms.
        - `explained_variance`, `l0`, `dead_fraction`: of the level alone.
        - `coherence`, `mean_coherence`: largest and mean absolute cosine of its atoms.
        - `hedging`: mean over its atoms of the largest cosine with an atom that is not
          in the level; NaN for the last level.
        - `hedging_null`: the same for as many random atoms as are in the level.

    Raises
    ------
    NotFittedError
        If `estimator` is not fitted.

    See Also
    --------
    skdict.MatryoshkaSAE.prefix : Returns a level.

    Notes
    -----
    With unit atoms :math:`w_i` and the first :math:`p` of them as the level,

    .. math::

        h_p = \frac{1}{p} \sum_{i \le p} \max_{j > p} \langle w_i, w_j \rangle.

    This is a sign of hedging that needs one fit only. Chanin et al. measure it by the
    change of the first atoms when atoms are added, which needs two.

    References
    ----------
    .. [1] D. Chanin, T. Dulka, A. Garriga-Alonso, "Feature hedging: correlated features
       break narrow sparse autoencoders", 2025, arXiv:2505.11756.

    Examples
    --------
    >>> from skdict import MatryoshkaSAE
    >>> from skdict.datasets import make_planted_dictionary
    >>> from skdict.evaluation import prefix_report
    >>> X = make_planted_dictionary(600, 16, random_state=0).data
    >>> sae = MatryoshkaSAE(32, 4, prefixes=(8, 16), max_iter=5, random_state=0)
    >>> levels = prefix_report(sae.fit(X[:400]), X[400:], random_state=0)
    >>> levels["n_components"].tolist()
    [8, 16, 32]
    >>> bool(levels["explained_variance"].is_monotonic_increasing)
    True
    """
    check_is_fitted(estimator)
    rng = check_random_state(random_state)
    n = len(estimator.components_)
    sizes = [*estimator.prefix(n).prefixes, n]
    rows = []
    for size in sizes:
        level = estimator.prefix(size)
        codes = level.transform(X)
        atoms = np.asarray(level.components_, np.float64)
        rest = np.asarray(estimator.components_, np.float64)[size:]
        drawn = rng.standard_normal(atoms.shape)
        drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
        rows.append(
            {
                "n_components": size,
                "explained_variance": explained_variance(
                    X, level.inverse_transform(codes)
                ),
                "l0": float(feature_density(codes).sum()),
                "dead_fraction": dead_feature_fraction(codes),
                "coherence": mutual_coherence(atoms),
                "mean_coherence": mean_coherence(atoms),
                "hedging": _nearest(atoms, rest),
                "hedging_null": _nearest(drawn, rest),
            }
        )
    return pd.DataFrame(rows)


def _nearest(atoms: np.ndarray, rest: np.ndarray) -> float:
    """Mean of the largest cosine with one of the rest."""
    return float((atoms @ rest.T).max(axis=1).mean()) if len(rest) else np.nan
