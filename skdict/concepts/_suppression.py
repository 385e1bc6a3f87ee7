"""What taking features out does to the predictability of batches and labels."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.utils import check_random_state
from sklearn.utils.parallel import Parallel, delayed
from tqdm import tqdm

from skdict._utils.arrays import compact
from skdict._utils.constraints import Interval
from skdict._utils.labels import encode
from skdict._utils.sklearn_private import HasMethods, StrOptions, validate_params
from skdict._utils.types import Codes, Data, Seed
from skdict.metrics import make_linear_probe
from skdict.stats import balanced_accuracy, check_codes

from ._edit import FEATURES, ablate
from ._features import as_features
from ._linear import LinearDecoder, linear_decoder
from ._matched import FeatureUse
from ._splits import make_folds
from ._suppressor import FeatureSuppressor

RUN_CONSTRAINTS: dict[str, Any] = {
    "codes": ["array-like", "sparse matrix"],
    "y": ["array-like"],
    "groups": ["array-like", None],
    "features": [*FEATURES, None],
    "cv": ["cv_object"],
    "n_random": [Interval(Integral, 0, None, closed="left")],
    "random_state": ["random_state"],
}


@validate_params(
    {
        **RUN_CONSTRAINTS,
        "batch": ["array-like"],
        "X": ["array-like", None],
        "to": [StrOptions({"input", "dictionary"})],
        "keep_error": ["boolean"],
        "params": [dict, None],
        "suppressor": [HasMethods(["fit", "transform"]), None],
        "probe": [HasMethods(["fit", "predict"]), None],
        "n_jobs": [Interval(Integral, None, None, closed="neither"), None],
        "verbose": ["verbose"],
    },
    prefer_skip_nested_validation=True,
)
def suppression_report(
    codes: Codes,
    y: Data,
    *,
    batch: Data,
    groups: Data | None = None,
    suppressor: Any = None,
    features: Data | None = None,
    estimator: Any = None,
    X: Data | None = None,
    to: str = "input",
    keep_error: bool = True,
    params: dict[str, Data] | None = None,
    cv: Any = 5,
    n_random: int = 5,
    probe: Any = None,
    random_state: Seed = None,
    n_jobs: int | None = None,
    verbose: int = 0,
) -> pd.DataFrame:
    """Predict batches and labels from codes, with and without batch features.

    In every fold, the features that follow the batch are found on the training rows.
    Two linear probes, of the batch and of the label, are fitted on the training rows
    and judged on the others: on all features, without those that follow the batch, and
    without random features that are used as often and as strongly.

    Parameters
    ----------
    codes : {array-like, sparse matrix or array} of shape (n_samples, n_components)
        Codes of the samples. A sparse input is never densified.

    y : array-like of shape (n_samples,)
        Labels, of at least two classes.

    batch : array-like of shape (n_samples,)
        Experimental batch of each sample.

    groups : array-like of shape (n_samples,), default=None
        Groups that are split as a whole, such as wells or images, so that the probes
        do not recognise a group.

    suppressor : FeatureSuppressor, default=None
        Finds the features in the training rows of each fold; it is cloned. None means
        ``FeatureSuppressor()``. It gets the `groups` if all samples of each group share
        batch and label.

    features : int, array-like of int or mask of shape (n_components,), default=None
        Features to take out in every fold, instead of those that a suppressor finds.
        They must have been chosen on other rows.

    estimator : estimator, default=None
        Fitted dictionary, or Pipeline that ends in one. The probes then read the
        decoded rows, as :func:`decode` gives them, instead of the codes.

    X, to, keep_error, params
        As in :func:`decode`, for `estimator`. If the error is kept, the rows keep what
        it holds of the batch, too.

    cv : int, splitter or iterable of (train, test), default=5
        Folds. An int is their number; they are stratified by batch and label.

    n_random : int, default=5
        Number of random sets of features in every fold.

    probe : classifier, default=None
        Predicts batches and labels from codes. None means
        :func:`~skdict.metrics.make_linear_probe`.

    random_state : int, RandomState instance or None, default=None
        Seed of the folds, of the suppressor and of the random features.

    n_jobs : int, default=None
        Number of processes over which the probes of a fold are spread.

    verbose : int, default=0
        Whether to show a progress bar.

    Returns
    -------
    runs : DataFrame
        One row for each fold and set of features. Columns:

        - `fold`: number of the fold.
        - `removed`: "none", "batch features" or "random features".
        - `draw`: number of the random set; 0 for the others.
        - `n_removed`: number of features that are taken out.
        - `l0_removed`, `energy_removed`: mean number of active features that a held-out
          row loses, and the fraction of the sum of squares of all codes.
        - `probe_batch`, `probe_y`: balanced accuracy on the held-out rows.
        - `chance_batch`, `chance_y`: one over the number of batches, and of classes.

    Raises
    ------
    ValueError
        If lengths differ, if a side of a fold has a single batch or class, or if there
        are not as many other features as are taken out.

    See Also
    --------
    skdict.FeatureSuppressor : Finds the features, and takes them out in a Pipeline.
    skdict.inspection.SuppressionDisplay : Draws the table.

    Notes
    -----
    Each random feature is drawn from the ten features that are nearest to the one that
    it replaces, by the logarithms of the number of active training rows and of the sum
    of squares. `l0_removed` and `energy_removed` show how well that succeeds: where
    batch features are the strongest of all, there is nothing like them. Any set of
    features that is taken out makes probes worse, so batch features matter if
    `probe_batch` falls further than without random features. The aim is reached if
    `probe_y` falls no further than that.

    A probe that still predicts the batch says that the batch is also in features that
    stay. A probe of labels that gets worse may have used the batch, if some labels are
    more frequent in some batches.

    Examples
    --------
    >>> import numpy as np
    >>> from skdict.concepts import suppression_report
    >>> rng = np.random.default_rng(0)
    >>> y, batch = rng.integers(0, 2, 300), rng.integers(0, 3, 300)
    >>> codes = rng.exponential(size=(300, 12))
    >>> codes[:, 1] += 2 * (y == 1)
    >>> codes[:, 3] += 2 * (batch == 2)
    >>> runs = suppression_report(codes, y, batch=batch, cv=2, random_state=0)
    >>> means = runs.groupby("removed")[["probe_batch", "probe_y"]].mean().round(1)
    >>> means["probe_batch"].to_dict()
    {'batch features': 0.3, 'none': 0.6, 'random features': 0.6}
    >>> means["probe_y"].to_dict()
    {'batch features': 0.9, 'none': 0.9, 'random features': 0.8}
    """
    codes = compact(check_codes(codes))
    n_samples, n_components = codes.shape
    labels = {
        name: _encode(values, name, n_samples)
        for name, values in (("batch", batch), ("y", y))
    }
    group_ids = None
    if groups is not None:
        group_ids = encode(groups, "groups", n_samples)[1]
    chosen = None if features is None else as_features(features, n_components)
    if chosen is not None and suppressor is not None:
        raise ValueError("Pass either features or a suppressor, not both.")
    decoder = None
    if estimator is not None:
        decoder = linear_decoder(
            estimator, codes, X, to=to, keep_error=keep_error, params=params
        )
    elif X is not None:
        raise ValueError("X is for decoded rows: pass the estimator, too.")
    rng = check_random_state(random_state)
    folds = make_folds(cv, labels, group_ids, rng)
    probe = make_linear_probe() if probe is None else probe
    rows = []
    with tqdm(total=len(folds) * (2 + n_random), disable=not verbose) as bar:
        for i, (train, test) in enumerate(folds):
            found = chosen
            if found is None:
                found = _find(suppressor, codes, labels, group_ids, train, rng)
            use = FeatureUse(codes[train])
            sets = [("none", 0, found[:0]), ("batch features", 0, found)]
            sets += [
                ("random features", draw, use.matched(found, rng))
                for draw in range(n_random)
            ]
            held_out = FeatureUse(codes[test])
            scores = Parallel(n_jobs=n_jobs)(
                delayed(_probe)(probe, given, ids, train, test)
                for given in (_without(codes, removed, decoder) for *_, removed in sets)
                for ids in labels.values()
            )
            for (name, draw, removed), pair in zip(
                sets, zip(scores[::2], scores[1::2], strict=True), strict=True
            ):
                rows.append(
                    {"fold": i, "removed": name, "draw": draw}
                    | {"n_removed": len(removed)}
                    | held_out.removed(removed)
                    | {"probe_batch": pair[0], "probe_y": pair[1]}
                    | {
                        f"chance_{kind}": 1 / len(np.unique(ids[test]))
                        for kind, ids in labels.items()
                    }
                )
                bar.update()
    return pd.DataFrame(rows)


def _find(
    suppressor: Any,
    codes: Codes,
    labels: dict[str, np.ndarray],
    group_ids: np.ndarray | None,
    train: np.ndarray,
    rng: np.random.RandomState,
) -> np.ndarray:
    """Find the features that follow the batch in the training rows."""
    suppressor = FeatureSuppressor() if suppressor is None else clone(suppressor)
    if not isinstance(suppressor, FeatureSuppressor):
        raise ValueError(
            f"suppressor must be a FeatureSuppressor, got {type(suppressor).__name__}."
        )
    suppressor.set_params(random_state=rng.randint(2**31))
    batch, y = labels["batch"][train], labels["y"][train]
    groups = None
    if group_ids is not None:
        groups = group_ids[train]
        shared = batch * (y.max() + 1) + (y if suppressor.within_classes else 0)
        n_pairs = len(np.unique(np.stack([groups, shared]), axis=1).T)
        if n_pairs > len(np.unique(groups)):
            groups = None
    suppressor.fit(codes[train], y, batch=batch, groups=groups)
    return np.flatnonzero(suppressor.is_suppressed_)


def _without(
    codes: Codes, removed: np.ndarray, decoder: LinearDecoder | None
) -> np.ndarray | sp.csr_array:
    """Codes without features, or the rows to which these decode."""
    if decoder is None:
        return ablate(codes, removed)
    lost = codes[:, removed] @ decoder.atoms[removed]
    return decoder.rows - decoder.scale[:, None] * lost


def _probe(
    probe: Any, codes: Codes, ids: np.ndarray, train: np.ndarray, test: np.ndarray
) -> float:
    """Balanced accuracy on the held-out rows."""
    predicted = clone(probe).fit(codes[train], ids[train]).predict(codes[test])
    return balanced_accuracy(ids[test], predicted)


def _encode(values: Data, name: str, n_samples: int) -> np.ndarray:
    levels, ids = encode(values, name, n_samples)
    if len(levels) < 2:
        raise ValueError(f"{name} has the value {levels[0]} for all samples.")
    return ids
