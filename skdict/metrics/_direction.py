"""Cosines of rows with directions."""

from __future__ import annotations

import numpy as np

from skdict._utils.arrays import row_blocks, unit_rows
from skdict._utils.checks import check_finite, check_numbers, on_host
from skdict._utils.sklearn_private import validate_params
from skdict._utils.types import Data


@validate_params(
    {"X": ["array-like"], "direction": ["array-like"]},
    prefer_skip_nested_validation=True,
)
def direction_cosines(X: Data, direction: Data) -> np.ndarray:
    """Cosine of every row with one or several directions.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Rows as the dictionary receives them, after the steps before it, such as
        whitening and normalisation.

    direction : array-like of shape (n_features,) or (n_directions, n_features)
        Directions, for example rows of `components_`. Their lengths do not matter.

    Returns
    -------
    cosines : ndarray of shape (n_samples,) or (n_samples, n_directions)
        Cosines in [-1, 1], float64. A zero row or a zero direction gives 0.

    Raises
    ------
    ValueError
        If the numbers of features differ, or if either input is empty or holds NaN
        or infinity.

    See Also
    --------
    token_heatmaps : The cosines of an image's tokens on their grid.

    Notes
    -----
    Every row has a cosine with the direction, also a row whose sparse code does not
    use it. Cosines depend on the origin: if embeddings are not centred, all cosines
    can be close to the cosine of the mean [1]_.

    References
    ----------
    .. [1] K. Donhauser et al. "Towards scientific discovery with dictionary
       learning: extracting biological concepts from microscopy foundation models."
       ICML 2025. arXiv:2412.16247.

    Examples
    --------
    >>> from skdict.metrics import direction_cosines
    >>> direction_cosines([[3.0, 0.0], [0.0, -2.0], [0.0, 0.0]], [0.0, 1.0])
    array([ 0., -1.,  0.])
    """
    X = check_numbers(X, ensure_all_finite=False, input_name="X")
    check_finite(X, "X")
    direction = on_host(direction)
    is_one = np.ndim(direction) == 1
    directions = check_numbers(
        np.asarray(direction)[None] if is_one else direction,
        ensure_all_finite=False,
        input_name="direction",
    )
    check_finite(directions, "direction")
    if directions.shape[1] != X.shape[1]:
        raise ValueError(
            f"X has {X.shape[1]} features, but the direction has "
            f"{directions.shape[1]} entries."
        )
    unit_directions = unit_rows(directions)[0].T
    cosines = np.empty((len(X), len(directions)))
    for rows in row_blocks(X):
        cosines[rows] = unit_rows(X[rows])[0] @ unit_directions
    np.clip(cosines, -1.0, 1.0, out=cosines)
    return cosines[:, 0] if is_one else cosines
