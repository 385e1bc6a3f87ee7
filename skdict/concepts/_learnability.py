"""Whether concepts are easier to learn than the classes that they explain."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.utils import check_random_state
from sklearn.utils.parallel import Parallel, delayed
from tqdm import tqdm

from skdict._utils.checks import check_numbers
from skdict._utils.constraints import Interval
from skdict._utils.labels import encode
from skdict._utils.sklearn_private import HasMethods, validate_params
from skdict._utils.types import Codes, Data, Seed
from skdict.metrics import make_linear_probe
from skdict.stats import check_codes, find_active

from ._edit import FEATURES
from ._features import as_features
from ._splits import make_folds

# Targets with fewer positive rows on a side of a fold are not judged there.
_LEAST_POSITIVE = 2


@validate_params(
    {
        "codes": ["array-like", "sparse matrix"],
        "X": ["array-like"],
        "y": ["array-like"],
        "features": [*FEATURES, None],
        "groups": ["array-like", None],
        "activity_threshold": [Interval(Real, 0, None, closed="left")],
        "cv": ["cv_object"],
        "probe": [HasMethods(["fit"]), None],
        "max_concepts": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
        "n_jobs": [Interval(Integral, None, None, closed="neither"), None],
        "verbose": ["verbose"],
    },
    prefer_skip_nested_validation=True,
)
def learnability(
    X: Data,
    codes: Codes,
    y: Data,
    *,
    features: Data | None = None,
    groups: Data | None = None,
    activity_threshold: float = 0.0,
    cv: Any = 5,
    probe: Any = None,
    max_concepts: int = 32,
    random_state: Seed = None,
    n_jobs: int | None = None,
    verbose: int = 0,
) -> pd.DataFrame:
    r"""Compare how well concepts and classes are learned from the same inputs.

    An explanation by concepts should be simpler than what it explains. A concept that
    is harder to learn than the class is no explanation of it. In every fold a linear
    probe of each concept, active or not, and of each class is fitted on the training
    rows and judged on the others.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Inputs from which both are learned, for instance the embeddings of a model that
        is not the one of the dictionary, handcrafted features, or the tokens of an
        earlier layer. From the rows that the dictionary encodes, its own concepts are
        easy to learn by construction.

    codes : {array-like, sparse matrix or array} of shape (n_samples, n_components)
        Codes, or any other table of concepts, of which an entry whose magnitude
        exceeds `activity_threshold` says that the concept is present.

    y : array-like of shape (n_samples,)
        Classes that the concepts explain.

    features : int, array-like of int or mask of shape (n_components,), default=None
        The concepts, such as those of :func:`concept_importance`. None means the
        `max_concepts` whose density is nearest to one half.

    groups : array-like of shape (n_samples,), default=None
        Groups that are split as a whole, such as wells or images.

    activity_threshold : float, default=0.0
        A concept is present in a row if ``|z| > activity_threshold``.

    cv : int, splitter or iterable of (train, test), default=5
        Folds. An int is their number; they are stratified by `y`.

    probe : classifier, default=None
        Tells positive from negative rows; it has `decision_function` or
        `predict_proba`. None means :func:`~skdict.metrics.make_linear_probe`.

    max_concepts : int, default=32
        Largest number of concepts, if `features` is None.

    random_state : int, RandomState instance or None, default=None
        Seed of the folds.

    n_jobs : int, default=None
        Number of processes over which the probes are spread.

    verbose : int, default=0
        Whether to show a progress bar.

    Returns
    -------
    table : DataFrame
        One row for each concept and class. Columns:

        - `kind`: "concept" or "class".
        - `name`: index of the feature, or the class.
        - `density`: fraction of positive rows.
        - `average_precision`: on held-out rows, mean over folds. That of a probe that
          knows nothing is the density.
        - `learnability`: average precision beyond chance, (AP - density) / (1 -
          density): 0 by chance, 1 if all is learned.
        - `auroc`: area under the ROC curve, mean over folds; one half by chance.
        - `n_folds`: number of folds in which both sides hold at least 2 positive and 2
          negative rows. If there are none, the three figures are NaN.
        - `harder_than`: fraction of the classes that are learned better than this one.

    Raises
    ------
    ValueError
        If lengths differ, if `y` holds a single class, or if X is not finite.

    See Also
    --------
    concept_importance : Finds the concepts that a head uses.
    compare_probe_sets : Whether other rows would give another explanation.

    Notes
    -----
    Ramaswamy et al. [1]_ compare concepts and classes by average precision corrected
    for their frequency, and find that concepts of common probe data sets are often
    harder to learn than the classes that they are to explain.

    References
    ----------
    .. [1] V. V. Ramaswamy et al. "Overlooked factors in concept-based explanations."
       arXiv:2207.09615, 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from skdict.concepts import learnability
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(300, 5))
    >>> y = np.where(X[:, 0] + rng.normal(size=300) > 0, "treated", "control")
    >>> codes = np.maximum(np.column_stack([X[:, 1], rng.normal(size=300)]), 0)
    >>> table = learnability(X, codes, y, features=[0, 1], random_state=0)
    >>> table[["kind", "name", "harder_than"]][:2]
          kind name  harder_than
    0  concept    0          0.0
    1  concept    1          1.0
    """
    codes = check_codes(codes)
    n_samples, n_components = codes.shape
    X = check_numbers(X, accept_sparse="csr", input_name="X")
    if X.shape[0] != n_samples:
        raise ValueError(f"X has {X.shape[0]} rows, but codes has {n_samples}.")
    classes, ids = encode(y, "y", n_samples)
    if len(classes) < 2:
        raise ValueError(f"y has the value {classes[0]} for all samples.")
    group_ids = None
    if groups is not None:
        group_ids = encode(groups, "groups", n_samples)[1]
    active = sp.csc_array(find_active(codes, activity_threshold))
    density = np.diff(active.indptr) / n_samples
    if features is None:
        order = np.argsort(np.abs(density - 0.5), kind="stable")
        chosen = np.sort(order[:max_concepts])
    else:
        chosen = as_features(features, n_components)
    rng = check_random_state(random_state)
    folds = make_folds(cv, {"y": ids}, group_ids, rng)
    probe = make_linear_probe() if probe is None else probe
    targets = [
        ("concept", int(j), active[:, [j]].toarray().ravel().astype(bool))
        for j in chosen
    ]
    targets += [("class", name, ids == i) for i, name in enumerate(classes)]
    jobs = Parallel(n_jobs=n_jobs, return_as="generator")(
        delayed(_judge)(probe, X, is_positive, folds) for _, _, is_positive in targets
    )
    rows = []
    for (kind, name, is_positive), scores in zip(
        targets, tqdm(jobs, total=len(targets), disable=not verbose), strict=True
    ):
        precision, beyond, auroc = np.full(3, np.nan)
        if scores:
            precision, beyond, auroc = np.mean(scores, axis=0)
        rows.append(
            {
                "kind": kind,
                "name": name,
                "density": is_positive.mean(),
                "average_precision": precision,
                "learnability": beyond,
                "auroc": auroc,
                "n_folds": len(scores),
            }
        )
    table = pd.DataFrame(rows)
    of_classes = table.loc[table["kind"] == "class", "learnability"].to_numpy()
    of_classes = of_classes[~np.isnan(of_classes)]
    own = table["learnability"].to_numpy()
    better = of_classes > own[:, None]
    table["harder_than"] = better.mean(axis=1) if len(of_classes) else np.nan
    return table


def _judge(
    probe: Any, X: Any, is_positive: np.ndarray, folds: list
) -> list[tuple[float, float, float]]:
    """Average precision, the same beyond chance, and AUROC, in each fold."""
    scores = []
    for train, test in folds:
        n_positive = [is_positive[side].sum() for side in (train, test)]
        n_negative = [(~is_positive[side]).sum() for side in (train, test)]
        if min(*n_positive, *n_negative) < _LEAST_POSITIVE:
            continue
        fitted = clone(probe).fit(X[train], is_positive[train])
        if hasattr(fitted, "decision_function"):
            found = fitted.decision_function(X[test])
        else:
            found = fitted.predict_proba(X[test])[:, 1]
        chance = is_positive[test].mean()
        precision = average_precision_score(is_positive[test], found)
        beyond = (precision - chance) / (1 - chance)
        scores.append((precision, beyond, roc_auc_score(is_positive[test], found)))
    return scores
