"""Many dictionaries from one reading of the rows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TypeVar

import torch

from skdict._ranks import ranks
from skdict._utils.types import Data, Seed
from skdict.decomposition._base import DictionaryEstimator, shared_seed
from skdict.decomposition._transcoder import Transcoder
from skdict.rows import RememberingRows, StoredRows, is_stored, whole_or_stored
from skdict.training.checkpoint import checkpoint_among
from skdict.training.together import train_together

Estimator = TypeVar("Estimator", bound=DictionaryEstimator)


def fit_many(
    estimators: Sequence[Estimator], X: Data, *, random_state: Seed = None
) -> list[Estimator]:
    """Fit many dictionaries to the same rows, which are read once for all.

    Where rows are on disk, reading often takes longer than learning. A grid over ``k``,
    seeds or models then costs little more than one of its fits.

    Parameters
    ----------
    estimators : sequence of dictionaries
        ICFL, TopKSAE and so on, but no Transcoder. They are fitted in place. Their
        ``batch_size`` and ``validation_fraction`` must be the same; all other
        parameters may differ. What "auto" takes depends on ``max_iter``, so set
        ``batch_size`` where those differ. One that stops early leaves the others to go
        on.
    X : array-like of shape (n_samples, n_features)
        Training data, as in ``fit``.
    random_state : int, RandomState instance or None, default=None
        Draws the order of the rows, the rows held out and those from which the
        dictionaries start, for all of them alike. What else is random comes from
        each dictionary's own ``random_state``.

    Returns
    -------
    estimators : list of dictionaries
        The same, fitted.

    Raises
    ------
    TypeError
        If one of them is no dictionary.
    ValueError
        If they do not share their batches or have a Checkpoint, or what ``fit`` raises.
        All of them are then as they were before.

    See Also
    --------
    sklearn.model_selection.ParameterGrid : All combinations of parameters.

    Notes
    -----
    A dictionary becomes the same alone, in ``fit_many([dictionary], X,
    random_state=...)``, as among others. Its own ``fit`` is as good, but draws another
    order of the rows.

    The dictionaries take turns with each batch. Together they need the memory of all of
    them.

    Examples
    --------
    >>> from skdict import ICFL
    >>> from skdict.datasets import make_planted_dictionary
    >>> from skdict.decomposition import fit_many
    >>> X = make_planted_dictionary(2000, 16, random_state=0).data
    >>> grid = [ICFL(64, k=k, random_state=0) for k in (2, 4, 8)]
    >>> scores = [icfl.score(X) for icfl in fit_many(grid, X, random_state=0)]
    >>> scores == sorted(scores)
    True
    """
    estimators = list(estimators)
    for estimator in estimators:
        if not isinstance(estimator, DictionaryEstimator):
            raise TypeError(f"fit_many fits dictionaries, but got {estimator!r}.")
        if isinstance(estimator, Transcoder):
            raise TypeError("fit_many fits no Transcoder: it has targets beside rows.")
        if checkpoint_among(estimator.callbacks) is not None:
            raise ValueError("fit_many writes no checkpoints: take the Checkpoint out.")
    if len({id(estimator) for estimator in estimators}) < len(estimators):
        raise ValueError("An estimator is given twice: pass a clone of it.")
    if is_stored(X):
        X = whole_or_stored(X)
        if isinstance(X, StoredRows):
            X = RememberingRows(X.source, X.name, X.dtype)
    seed = shared_seed(random_state)
    trainings = [
        partial(estimator._fit_among, X, torch.Generator("cpu").manual_seed(seed))
        for estimator in estimators
    ]
    # The order of the epochs must not repeat the draws before them.
    order = torch.Generator("cpu").manual_seed(seed + 1)
    before = [dict(vars(estimator)) for estimator in estimators]
    ranks().check_same([type(e).__name__ for e in estimators], "the list of estimators")
    try:
        train_together(trainings, order)
    except BaseException:
        for estimator, attributes in zip(estimators, before, strict=True):
            estimator.__dict__ = attributes
        raise
    return estimators
