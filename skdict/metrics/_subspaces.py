"""Row space and null space of a projection, and what can be read off each."""

from numbers import Integral

import numpy as np
from scipy.linalg import qr, svd
from sklearn.base import clone
from sklearn.model_selection import (
    StratifiedGroupKFold,
    check_cv,
    cross_val_score,
)
from sklearn.utils import (
    check_random_state,
)

from skdict._utils.arrays import scale_down
from skdict._utils.checks import check_finite, check_numbers
from skdict._utils.constraints import Interval
from skdict._utils.labels import as_labels
from skdict._utils.sklearn_private import HasMethods, validate_params
from skdict._utils.table import as_table

from ._folds import list_folds
from ._probe import make_linear_probe

_SCORING = "balanced_accuracy"


@validate_params(
    {"X": ["array-like"], "projection": ["array-like"]},
    prefer_skip_nested_validation=True,
)
def split_by_projection(X, projection):
    r"""Split rows into what a linear map keeps and what it discards.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Rows, as they enter the map.

    projection : array-like of shape (n_outputs, n_features)
        Matrix of the map :math:`x \mapsto P x`, with the shape of the weight of a
        `torch.nn.Linear`; for example the one between the encoder and the decoder
        of a masked autoencoder. Its rank may be anything.

    Returns
    -------
    row_part : ndarray of shape (n_samples, rank)
        Coordinates of the rows in an orthonormal basis of the row space of the
        projection. All that the map sees of them.

    null_part : ndarray of shape (n_samples, n_features - rank)
        Coordinates in an orthonormal basis of its null space. All that it maps to
        zero.

    Raises
    ------
    ValueError
        If the numbers of features differ, or if either input is empty or holds NaN
        or infinity.

    See Also
    --------
    subspace_probes : How well labels are read off each part.

    Notes
    -----
    The bases are right singular vectors of :math:`P`. Singular values below
    ``max(P.shape) * eps`` times the largest count as zero, with the `eps` of the
    dtype of `projection`, as in :func:`numpy.linalg.matrix_rank`.

    The two parts are orthogonal and together the whole row:
    :math:`\|x\|^2 = \|x_\mathrm{row}\|^2 + \|x_\mathrm{null}\|^2`. They come as
    coordinates and not as vectors of `n_features` entries, so that whatever is
    fitted on them sees features of full rank. A basis of a subspace can be rotated
    in it; only what does not depend on that has a meaning.

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
    X,
    y,
    projection,
    *,
    probe=None,
    cv=5,
    groups=None,
    n_random=5,
    random_state=None,
):
    """Balanced accuracy of probes on a projection's row space and null space.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Rows, as they enter the map.

    y : array-like of shape (n_samples,)
        Labels, of at least two classes.

    projection : array-like of shape (n_outputs, n_features)
        Matrix of the map, as in `split_by_projection`.

    probe : classifier, default=None
        None: `make_linear_probe`, which also takes away the mean, as dense rows
        are fitted faster so.

    cv : int, cross-validation generator or iterable, default=5
        The folds, the same for all subspaces. An int means
        :class:`~sklearn.model_selection.StratifiedKFold`, or
        :class:`~sklearn.model_selection.StratifiedGroupKFold` where `groups` is
        given.

    groups : array-like of shape (n_samples,), default=None
        Groups that are not to be split between training and test.

    n_random : int, default=5
        Number of random subspaces of either dimension, the null. With 0 there is
        none.

    random_state : int, RandomState instance or None, default=None
        Seed of the random subspaces.

    Returns
    -------
    report : DataFrame
        Rows: "all" (the whole of `X`), "row"
        and "null", and with ``n_random > 0`` also "random_row" and "random_null",
        which are random subspaces with as many dimensions. Columns:

        - `space`: the name of the row.
        - `n_dims`: dimensions of the subspace.
        - `variance_fraction`: share of the variance of `X` that lies in it.
        - `balanced_accuracy`: mean over the folds, and over the draws of the
          random ones.
        - `fold_std`: standard deviation over the folds (of the mean over the
          draws).
        - `draw_std`: standard deviation over the draws (of the mean over the
          folds); 0 for the spaces that are not drawn.

        - `draw_min`, `draw_max`: the lowest and the highest balanced accuracy of a
          draw; the balanced accuracy itself for the spaces that are not drawn.
        - `n_random`: the number of draws, the same in all rows.

    Raises
    ------
    ValueError
        As `split_by_projection`; also if `y` has another length or fewer than two
        classes, or if the row space or the null space has no dimension.

    See Also
    --------
    split_by_projection : The parts themselves.
    make_linear_probe : The probe.

    Notes
    -----
    A subspace of many dimensions holds much of everything, so that an accuracy
    means little without that of random subspaces of the same dimension. A random
    subspace and its complement are drawn together. The subspaces may also differ
    in how much of the variance they hold, which `variance_fraction` shows.

    The question is that of appendix A of [1]_, where perturbations are best read
    off the null space of the projection from the encoder to the decoder.

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

    def score(part):
        return cross_val_score(clone(probe), part, y, scoring=_SCORING, cv=splits)

    row_part, null_part = _split(X, row_basis, null_basis)
    parts = {"all": [X], "row": [row_part], "null": [null_part]}
    # By space: (n_draws, n_folds) scores, dimensions and variance.
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


def _row_and_null_basis(projection):
    """Orthonormal bases of the row space and of the null space, one vector a row."""
    n_outputs, n_features = projection.shape
    shape_factor = max(projection.shape)
    eps = np.finfo(projection.dtype).eps
    projection, _ = scale_down(projection)  # or singular values may be infinite
    if n_outputs > n_features:
        # The same row space and singular values, without the n_outputs x n_outputs
        # left vectors that the full decomposition would make.
        projection = qr(projection, mode="r")[0][:n_features]
    _, singular_values, Vt = svd(projection, full_matrices=True)
    tolerance = singular_values.max() * shape_factor * eps
    rank = int(np.count_nonzero(singular_values > tolerance))
    return Vt[:rank], Vt[rank:]


def _split(X, row_basis, null_basis):
    # The bases in the dtype of X: float32 rows stay float32.
    return X @ row_basis.T.astype(X.dtype), X @ null_basis.T.astype(X.dtype)


def _variance(X):
    return float(X.var(axis=0, dtype=np.float64).sum())


def _make_splits(X, y, cv, groups):
    # The folds themselves are handed on: the same for all subspaces even where they
    # are drawn at random, and scikit-learn refuses `groups` with routing on.
    if groups is not None:
        groups = as_labels(groups, "groups", len(X))
        if isinstance(cv, Integral):
            cv = StratifiedGroupKFold(cv)
    return list_folds(check_cv(cv, y, classifier=True), X, y, groups)


def _check_projection(projection, n_features):
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


def _check_labels(X, y):
    y = as_labels(y, "y", len(X))
    if len(np.unique(y)) < 2:
        raise ValueError(
            f"A probe needs at least two classes, but y holds only {y[0]}."
        )
    return y
