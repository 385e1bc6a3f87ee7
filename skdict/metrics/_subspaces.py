"""Row space and null space of a projection, and probes on them."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from scipy.linalg import qr, svd
from sklearn.base import clone
from sklearn.model_selection import StratifiedGroupKFold, check_cv, cross_val_score
from sklearn.utils import check_random_state

from skdict._utils.arrays import scale_down
from skdict._utils.checks import check_finite, check_numbers
from skdict._utils.constraints import Interval
from skdict._utils.labels import as_labels
from skdict._utils.sklearn_private import HasMethods, validate_params
from skdict._utils.table import as_table
from skdict._utils.types import Data, Seed

from ._folds import list_folds
from ._probe import make_linear_probe

_SCORING = "balanced_accuracy"


@validate_params(
    {"X": ["array-like"], "projection": ["array-like"]},
    prefer_skip_nested_validation=True,
)
def split_by_projection(X: Data, projection: Data) -> tuple[np.ndarray, np.ndarray]:
    r"""Split rows into what a linear map keeps and what it discards.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Rows, as they enter the map.

    projection : array-like of shape (n_outputs, n_features)
        Matrix of the map :math:`x \mapsto P x`, with the shape of the weight of a
        `torch.nn.Linear`; for example the map between the encoder and the decoder of a
        masked autoencoder. It may have any rank.

    Returns
    -------
    row_part : ndarray of shape (n_samples, rank)
        Coordinates of the rows in an orthonormal basis of the row space of the
        projection: the part of the rows on which the output of the map depends.

    null_part : ndarray of shape (n_samples, n_features - rank)
        Coordinates in an orthonormal basis of the null space: the part that the map
        sends to zero.

    Raises
    ------
    ValueError
        If the numbers of features differ, or if either input is empty or holds NaN
        or infinity.

    See Also
    --------
    subspace_probes : How well labels can be predicted from each part.

    Notes
    -----
    The bases are right singular vectors of :math:`P`. Singular values below
    ``max(P.shape) * eps`` times the largest count as zero, with the `eps` of the
    dtype of `projection`, as in :func:`numpy.linalg.matrix_rank`.

    The two parts are orthogonal and add up to the row:
    :math:`\|x\|^2 = \|x_\mathrm{row}\|^2 + \|x_\mathrm{null}\|^2`. They are
    coordinates, not vectors of `n_features` entries, so that models fitted to them get
    features of full rank. The basis of a subspace is not unique: only results that do
    not change if it is rotated have a meaning.

    Examples
    --------
    >>> from skdict.metrics import split_by_projection
    >>> X = [[3.0, 4.0, 1.0], [0.0, 2.0, -1.0]]
    >>> row_part, null_part = split_by_projection(X, [[0.0, 5.0, 0.0]])
    >>> row_part.shape, null_part.shape
    ((2, 1), (2, 2))
    >>> abs(row_part).round(6)
    array([[4.],
           [2.]])
    """
    X = check_numbers(
        X, dtype=[np.float64, np.float32], ensure_all_finite=False, input_name="X"
    )
    check_finite(X, "X")
    projection = _check_projection(projection, X.shape[1])
    return _split(X, *_row_and_null_basis(projection))


@validate_params(
    {
        "X": ["array-like"],
        "y": ["array-like"],
        "projection": ["array-like"],
        "probe": [HasMethods(["fit", "predict"]), None],
        "cv": ["cv_object"],
        "groups": ["array-like", None],
        "n_random": [Interval(Integral, 0, None, closed="left")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def subspace_probes(
    X: Data,
    y: Data,
    projection: Data,
    *,
    probe: Any = None,
    cv: Any = 5,
    groups: Data | None = None,
    n_random: int = 5,
    random_state: Seed = None,
) -> pd.DataFrame:
    """Score probes on a projection's row space and null space.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Rows, as they enter the map.

    y : array-like of shape (n_samples,)
        Labels, of at least two classes.

    projection : array-like of shape (n_outputs, n_features)
        Matrix of the map, as in `split_by_projection`.

    probe : classifier, default=None
        None means `make_linear_probe`, here with centring, because dense rows are then
        fitted faster.

    cv : int, cross-validation generator or iterable, default=5
        The folds, the same for all subspaces. An int means
        :class:`~sklearn.model_selection.StratifiedKFold`, or
        :class:`~sklearn.model_selection.StratifiedGroupKFold` if `groups` is given.

    groups : array-like of shape (n_samples,), default=None
        Groups that must not be split between training and test.

    n_random : int, default=5
        Number of random subspaces of either dimension, as a null. With 0 there is no
        null.

    random_state : int, RandomState instance or None, default=None
        Seed of the random subspaces.

    Returns
    -------
    report : DataFrame
        One row for each space: "all" (the whole of `X`), "row" and "null", and with
        ``n_random > 0`` also "random_row" and "random_null", random subspaces with the
        same numbers of dimensions. Columns:

        - `space`: the name of the space.
        - `n_dims`: its number of dimensions.
        - `variance_fraction`: fraction of the variance of `X` that lies in it.
        - `balanced_accuracy`: mean over the folds and, for random subspaces, over the
          draws.
        - `fold_std`: standard deviation over the folds (of the mean over the
          draws).
        - `draw_std`: standard deviation over the draws (of the mean over the
          folds); 0 for spaces that are not random.
        - `draw_min`, `draw_max`: the lowest and the highest balanced accuracy of a
          draw; equal to `balanced_accuracy` for spaces that are not random.
        - `n_random`: the number of draws, the same in all rows.

    Raises
    ------
    ValueError
        As `split_by_projection`; also if `y` has a different length or fewer than two
        classes, or if the row space or the null space has zero dimensions.

    See Also
    --------
    split_by_projection : The parts.
    make_linear_probe : The probe.

    Notes
    -----
    Labels can be predicted from almost any subspace of many dimensions, so an accuracy
    means little without that of random subspaces of the same dimension. A random
    subspace and its complement are drawn together. Subspaces may also hold different
    fractions of the variance, which `variance_fraction` shows.

    Appendix A of [1]_ asks this question; perturbations are best predicted there from
    the null space of the projection between the encoder and the decoder.

    References
    ----------
    .. [1] K. Donhauser et al. "Towards scientific discovery with dictionary
       learning: extracting biological concepts from microscopy foundation models."
       ICML 2025. arXiv:2412.16247.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from skdict.metrics import subspace_probes
    >>> X, y = load_iris(return_X_y=True)
    >>> petals = np.eye(4)[2:]
    >>> report = subspace_probes(X, y, petals, random_state=0)
    >>> report["space"].tolist()
    ['all', 'row', 'null', 'random_row', 'random_null']
    >>> accuracy = dict(zip(report["space"], report["balanced_accuracy"]))
    >>> bool(accuracy["row"] > accuracy["random_row"] > accuracy["null"])
    True
    """
    X = check_numbers(
        X, dtype=[np.float64, np.float32], ensure_all_finite=False, input_name="X"
    )
    check_finite(X, "X")
    y = _check_labels(X, y)
    projection = _check_projection(projection, X.shape[1])
    row_basis, null_basis = _row_and_null_basis(projection)
    for name, basis in {"row": row_basis, "null": null_basis}.items():
        if len(basis) == 0:
            raise ValueError(
                f"The {name} space of the projection has no dimension: its rank is "
                f"{len(row_basis)}, of {X.shape[1]} features."
            )
    if probe is None:
        probe = make_linear_probe().set_params(standardscaler__with_mean=True)
    splits = _make_splits(X, y, cv, groups)

    def score(part: np.ndarray) -> np.ndarray:
        return cross_val_score(clone(probe), part, y, scoring=_SCORING, cv=splits)

    row_part, null_part = _split(X, row_basis, null_basis)
    parts = {"all": [X], "row": [row_part], "null": [null_part]}
    # For each space: scores (n_draws, n_folds), variances and number of dimensions.
    rng = check_random_state(random_state)
    scores = {name: [score(part[0])] for name, part in parts.items()}
    variances = {name: [_variance(part[0])] for name, part in parts.items()}
    n_dims = {name: part[0].shape[1] for name, part in parts.items()}
    for _ in range(n_random):
        directions = rng.standard_normal(row_basis.shape)
        drawn = _split(X, *_row_and_null_basis(directions))
        for name, part in zip(("row", "null"), drawn, strict=True):
            scores.setdefault(f"random_{name}", []).append(score(part))
            variances.setdefault(f"random_{name}", []).append(_variance(part))
            n_dims[f"random_{name}"] = part.shape[1]

    total = variances["all"][0]
    columns = {
        "space": np.array(list(scores), dtype=object),
        "n_dims": np.array([n_dims[name] for name in scores]),
        "variance_fraction": np.array(
            [np.mean(v) / total if total > 0 else 0.0 for v in variances.values()]
        ),
        "balanced_accuracy": np.array([np.mean(s) for s in scores.values()]),
        "fold_std": np.array([np.mean(s, axis=0).std() for s in scores.values()]),
        "draw_std": np.array([np.mean(s, axis=1).std() for s in scores.values()]),
    }
    of_draws = [np.mean(s, axis=1) for s in scores.values()]
    columns["draw_min"] = np.array([draws.min() for draws in of_draws])
    columns["draw_max"] = np.array([draws.max() for draws in of_draws])
    return as_table(columns, {"n_random": n_random})


def _row_and_null_basis(projection: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find orthonormal bases of the row space and the null space, as rows."""
    n_outputs, n_features = projection.shape
    shape_factor = max(projection.shape)
    eps = np.finfo(projection.dtype).eps
    projection, _ = scale_down(projection)  # so that singular values stay finite
    if n_outputs > n_features:
        # R has the same row space and singular values. The full decomposition of the
        # projection would also make n_outputs x n_outputs left vectors.
        projection = qr(projection, mode="r")[0][:n_features]
    _, singular_values, Vt = svd(projection, full_matrices=True)
    tolerance = singular_values.max() * shape_factor * eps
    rank = int(np.count_nonzero(singular_values > tolerance))
    return Vt[:rank], Vt[rank:]


def _split(
    X: np.ndarray, row_basis: np.ndarray, null_basis: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    # Convert the bases to the dtype of X, so that float32 rows stay float32.
    return X @ row_basis.T.astype(X.dtype), X @ null_basis.T.astype(X.dtype)


def _variance(X: np.ndarray) -> float:
    return float(X.var(axis=0, dtype=np.float64).sum())


def _make_splits(
    X: np.ndarray, y: np.ndarray, cv: Any, groups: Data | None
) -> list[tuple[Any, Any]]:
    # Draw the folds once, so that all subspaces get the same even if they are random.
    # Besides, scikit-learn refuses `groups` if metadata routing is on.
    if groups is not None:
        groups = as_labels(groups, "groups", len(X))
        if isinstance(cv, Integral):
            cv = StratifiedGroupKFold(cv)
    return list_folds(check_cv(cv, y, classifier=True), X, y, groups)


def _check_projection(projection: Data, n_features: int) -> np.ndarray:
    projection = check_numbers(
        projection,
        dtype=[np.float64, np.float32],
        ensure_all_finite=False,
        input_name="projection",
    )
    check_finite(projection, "projection")
    if projection.shape[1] != n_features:
        hint = ""
        if projection.shape[0] == n_features:
            hint = " It seems to be transposed: outputs are rows, features columns."
        raise ValueError(
            f"projection has {projection.shape[1]} columns, but X has {n_features} "
            f"features.{hint}"
        )
    return projection


def _check_labels(X: np.ndarray, y: Data) -> np.ndarray:
    y = as_labels(y, "y", len(X))
    if len(np.unique(y)) < 2:
        raise ValueError(
            f"A probe needs at least two classes, but y holds only {y[0]}."
        )
    return y
