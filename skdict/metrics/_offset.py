"""Length of the mean over the spread of the rows."""

from __future__ import annotations

import math

import numpy as np

from skdict._utils.arrays import row_blocks
from skdict._utils.checks import check_finite, check_numbers
from skdict._utils.sklearn_private import validate_params
from skdict._utils.types import Data

from ._reconstruction import scaled_mean


@validate_params({"X": ["array-like"]}, prefer_skip_nested_validation=True)
def offset_ratio(X: Data) -> float:
    r"""Length of the mean row over the spread of the rows.

    Rows far from zero are nearly parallel: they all have large cosines with each other,
    with any reconstruction and with a constant row. Autoencoders that do not subtract
    the mean lose most of their latents there [1]_. Those of skdict do subtract it.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Rows.

    Returns
    -------
    ratio : float
        0 for centred rows, infinity if all rows are the same and not zero.

    Raises
    ------
    ValueError
        If `X` is empty or holds NaN or infinity.

    See Also
    --------
    skdict.ControlCenterScaler : Subtracts the mean of the controls of each batch.
    skdict.ControlPCAWhitener : Subtracts the mean of all controls, and whitens.

    Notes
    -----
    With the mean row :math:`\mu`,

    .. math::

        \gamma = \|\mu\| \Big/ \sqrt{\frac{1}{n} \sum_i \|x_i - \mu\|^2}.

    The cosine of a row with the mean is then about :math:`\gamma / \sqrt{1 +
    \gamma^2}`: 0.95 at a ratio of 3. The guide's page on whitening has what the ratio
    does to each dictionary, with the pre-bias and without one.

    References
    ----------
    .. [1] "Feature death in sparse autoencoders", 2026, arXiv:2605.31518.

    Examples
    --------
    >>> from skdict.metrics import offset_ratio
    >>> offset_ratio([[3.0, 5.0], [3.0, 3.0]])  # the mean is (3, 4), the spread 1
    5.0
    """
    X = check_numbers(X, ensure_all_finite=False, input_name="X")
    check_finite(X, "X")
    scale, first, mean = scaled_mean(X)
    variance = 0.0
    for rows in row_blocks(X):
        centred = X[rows].astype(np.float64) * scale - first - mean
        variance += float(np.square(centred).sum()) / len(X)
    length = float(np.linalg.norm(first + mean))
    if variance == 0.0:
        return math.inf if length > 0 else 0.0
    return length / math.sqrt(variance)
