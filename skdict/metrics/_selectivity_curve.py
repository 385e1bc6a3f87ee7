"""Features sorted by selectivity, with a null for each rank."""

from __future__ import annotations

from typing import Any

import pandas as pd

from skdict._utils.sklearn_private import validate_params
from skdict._utils.table import as_table
from skdict._utils.types import Codes, Data, Seed
from skdict.stats import SCORE_CONSTRAINTS, selectivity_curves


@validate_params(
    {**SCORE_CONSTRAINTS, "label": "no_validation"}, prefer_skip_nested_validation=True
)
def selectivity_curve(
    codes: Codes,
    y: Data,
    *,
    label: Any = None,
    contrast: str = "average",
    activity_threshold: float = 0.0,
    n_permutations: int = 0,
    batch: Data | None = None,
    groups: Data | None = None,
    control: Data | None = None,
    grid_shape: Data | None = None,
    random_state: Seed = None,
) -> pd.DataFrame:
    """Sort the features by falling selectivity, with a null for each rank.

    Parameters
    ----------
    codes : {array-like, sparse matrix or array} of shape (n_samples, n_components)
        Codes of the samples. A sparse input is never densified. The blocks of a Dask
        array are computed in each pass over them, a few at a time.

    y : array-like of shape (n_samples,)
        Labels, of at least two classes.

    label : label of a class, default=None
        Class whose scores are sorted. None sorts each feature's best score over the
        classes. Classes that no permutation can move, such as that of the controls
        with `control`, do not count, because they have no null.

    contrast : {"average", "maximum"}, default="average"
        The score, as in `selectivity_scores`.

    activity_threshold : float, default=0.0
        A feature is active in a sample if ``|z| > activity_threshold``.

    n_permutations : int, default=0
        Number of permutations of `y`. With 0 the curve has no null.

    batch : array-like of shape (n_samples,), default=None
        Labels are permuted only among the samples of a batch.

    groups : array-like of shape (n_samples,), default=None
        Groups that were labelled as a whole, such as the image of each token, as in
        `selectivity_report`: the labels of whole groups are exchanged.

    control : array-like of shape (n_samples,), default=None
        Boolean or 0/1 array of the control samples that fitted the whitening, as in
        `selectivity_report`: their labels are not exchanged with those of others.

    grid_shape : tuple of int (height, width), default=None
        The grid of an image's tokens, for labels that differ inside images, as in
        `selectivity_report`: the label map of each image is shifted.

    random_state : int, RandomState instance or None, default=None
        Seed of the permutations.

    Returns
    -------
    curve : DataFrame
        One row per feature, the most selective first. Columns:

        - `feature`: index of the feature.
        - `score`: its score.
        - `null_q05`, `null_q95`: 5 % and 95 % quantiles, over the permutations, of
          the score at the same rank; NaN if permutation cannot move the class
          `label`, such as that of the controls with `control`. Only with
          ``n_permutations > 0``.
        - `contrast`, `label`, `n_permutations`: the same in all rows.

    Raises
    ------
    ValueError
        As `selectivity_report`; also if no sample has the class `label`.

    Warns
    -----
    UserWarning
        If no batch holds samples of two classes, so that there is no null.

    See Also
    --------
    skdict.inspection.SelectivityCurveDisplay : Draws the curve.
    selectivity_counts : Number of features above a score.
    selectivity_tests : Features that are selective beyond chance.

    Notes
    -----
    The scores of every permutation are sorted too, so the quantiles at rank `r` are
    those of the `r`-th best score by chance, whichever feature has it. They hold for
    each rank by itself, not for all ranks at once.

    Examples
    --------
    >>> import numpy as np
    >>> from skdict.metrics import selectivity_curve
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat(["control", "treated"], 50)
    >>> codes = rng.random((100, 20)) * (rng.random((100, 20)) < 0.3)
    >>> codes[:, 7] = y == "treated"
    >>> curve = selectivity_curve(codes, y, n_permutations=99, random_state=0)
    >>> int(curve["feature"][0]), float(curve["score"][0])
    (7, 1.0)
    >>> bool(curve["null_q95"][0] < 0.4)
    True
    """
    (curve,) = selectivity_curves(
        codes,
        y,
        [label],
        contrast=contrast,
        activity_threshold=activity_threshold,
        n_permutations=n_permutations,
        batch=batch,
        groups=groups,
        control=control,
        grid_shape=grid_shape,
        random_state=random_state,
    )
    columns: dict[str, Any] = {"feature": curve.features, "score": curve.scores}
    if n_permutations > 0:
        columns |= {"null_q05": curve.low, "null_q95": curve.high}
    settings = {
        "contrast": contrast,
        "label": label,
        "n_permutations": int(n_permutations),
    }
    return as_table(columns, settings)
