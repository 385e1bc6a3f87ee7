"""Images and patches with the most extreme values of heatmaps."""

from __future__ import annotations

from numbers import Integral

import numpy as np
import pandas as pd

from skdict._utils.arrays import scale_down
from skdict._utils.constraints import Interval
from skdict._utils.sklearn_private import StrOptions, validate_params
from skdict._utils.table import as_table
from skdict._utils.types import Data

from .grid import check_heatmaps

IMAGE_SCORE_CONSTRAINT = [StrOptions({"mean", "max"})]
N_CONSTRAINT = [Interval(Integral, 1, None, closed="left")]


@validate_params(
    {
        "heatmaps": ["array-like"],
        "n_images": N_CONSTRAINT,
        "image_score": IMAGE_SCORE_CONSTRAINT,
    },
    prefer_skip_nested_validation=True,
)
def rank_images(
    heatmaps: Data, *, n_images: int = 8, image_score: str = "mean"
) -> pd.DataFrame:
    """Find the images most and least aligned with a direction.

    Parameters
    ----------
    heatmaps : array-like of shape (n_images, height, width)
        Heatmaps on the grid of tokens, for example of cosines.

    n_images : int, default=8
        Number of images on either side. If there are fewer than twice this number in
        all, some are on both sides.

    image_score : {"mean", "max"}, default="mean"
        Score of an image: the mean of its values, or the largest value, which finds
        images with a small object.

    Returns
    -------
    ranking : DataFrame
        Columns:

        - `side`: "most" or "least".
        - `rank`: from 0, the most extreme image.
        - `image`: index of the image; of equal images, the first comes first.
        - `score`: score of the image.
        - `image_score`: the same in all rows.

    Raises
    ------
    ValueError
        If the heatmaps are empty or hold NaN or infinity.

    See Also
    --------
    strongest_patches : Ranks single tokens.

    Notes
    -----
    The mean of cosines is not the cosine of the mean token: all tokens count the same,
    whatever their lengths. For images with one embedding each, pass its cosine as a
    heatmap of shape (n_images, 1, 1).

    Examples
    --------
    >>> import numpy as np
    >>> from skdict.images import rank_images
    >>> heatmaps = np.array([0.1, 0.9, -0.3]).reshape(3, 1, 1)
    >>> ranking = rank_images(heatmaps, n_images=1)
    >>> ranking["side"].tolist(), ranking["image"].tolist()
    (['most', 'least'], [1, 2])
    """
    heatmaps = check_heatmaps(heatmaps)
    axes = (1, 2)
    if image_score == "mean":
        scaled, exponent = scale_down(heatmaps)
        scores = np.ldexp(scaled.mean(axis=axes), exponent)
    else:
        scores = heatmaps.max(axis=axes)
    n_shown = min(n_images, len(scores))
    most = np.argsort(-scores, kind="stable")[:n_shown]
    least = np.argsort(scores, kind="stable")[:n_shown]
    images = np.concatenate((most, least))
    columns = {
        "side": np.repeat(np.array(["most", "least"], dtype=object), n_shown),
        "rank": np.tile(np.arange(n_shown), 2),
        "image": images,
        "score": scores[images],
    }
    return as_table(columns, {"image_score": image_score})


@validate_params(
    {
        "heatmaps": ["array-like"],
        "n_patches": N_CONSTRAINT,
        "side": [StrOptions({"most", "least"})],
        "max_per_image": [*N_CONSTRAINT, None],
        "min_distance": N_CONSTRAINT,
    },
    prefer_skip_nested_validation=True,
)
def strongest_patches(
    heatmaps: Data,
    *,
    n_patches: int = 16,
    side: str = "most",
    max_per_image: int | None = None,
    min_distance: int = 1,
) -> pd.DataFrame:
    """Find the tokens with the largest or the smallest values.

    Parameters
    ----------
    heatmaps : array-like of shape (n_images, height, width) or (height, width)
        Heatmaps on the grid of tokens.

    n_patches : int, default=16
        Number of patches. Fewer are returned if the other parameters allow no more.

    side : {"most", "least"}, default="most"
        The largest or the smallest values.

    max_per_image : int, default=None
        Largest number of patches from one image. None sets no limit.

    min_distance : int, default=1
        Patches of one image are at least this number of rows or of columns apart. 1
        allows all. Neighbouring tokens are alike, so a larger distance shows more
        places.

    Returns
    -------
    patches : DataFrame
        One row per patch, the most extreme first; of equal tokens, the first comes
        first. Columns:

        - `image`, `row`, `column`: position of the token.
        - `value`: value of the token.
        - `side`, `min_distance`: the same in all rows.

    Raises
    ------
    ValueError
        If the heatmaps are empty or hold NaN or infinity.

    See Also
    --------
    rank_images : Ranks whole images.

    Examples
    --------
    >>> from skdict.images import strongest_patches
    >>> heatmap = [[0.9, 0.8, 0.0], [0.1, 0.2, 0.7]]
    >>> patches = strongest_patches(heatmap, n_patches=2, min_distance=2)
    >>> patches["row"].tolist(), patches["column"].tolist()
    ([0, 1], [0, 2])
    """
    heatmaps = check_heatmaps(heatmaps)
    values = heatmaps.ravel()
    order = np.argsort(-values if side == "most" else values, kind="stable")
    chosen: list[int] = []
    taken = np.zeros(heatmaps.shape, dtype=bool)
    per_image = np.zeros(len(heatmaps), dtype=int)
    reach = min_distance - 1
    for token in order:
        if len(chosen) == n_patches:
            break
        image, row, column = np.unravel_index(token, heatmaps.shape)
        if taken[image, row, column]:
            continue
        chosen.append(token)
        taken[
            image,
            max(row - reach, 0) : row + reach + 1,
            max(column - reach, 0) : column + reach + 1,
        ] = True
        per_image[image] += 1
        if per_image[image] == max_per_image:
            taken[image] = True
    images, rows, columns_ = np.unravel_index(chosen, heatmaps.shape)
    columns = {
        "image": images,
        "row": rows,
        "column": columns_,
        "value": values[chosen],
    }
    return as_table(columns, {"side": side, "min_distance": min_distance})
