"""A centre that outlying rows do not move."""

from __future__ import annotations

from torch import Tensor


def geometric_median(x: Tensor, *, max_iter: int = 100, tol: float = 1e-6) -> Tensor:
    """The point with the least sum of distances to the rows.

    Weiszfeld's iteration. A row that coincides with the iterate gets a large but
    finite weight, where the textbook form divides by zero.

    Parameters
    ----------
    x : Tensor of shape (n, d)
        Rows that spread about 1 around their mean.
    max_iter : int, default=100
        Most iterations.
    tol : float, default=1e-6
        Length of the step at which to stop.

    Returns
    -------
    Tensor of shape (d,)
    """
    median = x.mean(0)
    for _ in range(max_iter):
        offsets = x - median
        weights = 1 / offsets.norm(dim=1).clamp(min=1e-6)
        step = (weights / weights.sum()) @ offsets
        median = median + step
        if step.norm() <= tol:
            break
    return median
