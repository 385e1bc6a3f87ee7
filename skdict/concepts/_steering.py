"""Where controls move if the features of a treatment are added."""

from __future__ import annotations

from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse as sp
from sklearn.utils import check_random_state

from skdict._utils.constraints import Interval
from skdict._utils.labels import encode
from skdict._utils.sklearn_private import validate_params
from skdict._utils.types import Codes, Data, Seed
from skdict.stats import check_codes, indicator
from skdict.stats.labels import row_of

from ._decode import decode
from ._features import as_features
from ._matched import FeatureUse
from ._splits import make_folds
from ._suppression import RUN_CONSTRAINTS

# Means that differ by less than this fraction of their size are equal but for rounding.
_ROUNDING = 1e-12


@validate_params(
    {
        **RUN_CONSTRAINTS,
        "n_features": [Interval(Integral, 1, None, closed="left")],
        "amounts": ["array-like"],
    },
    prefer_skip_nested_validation=True,
)
def steering_curve(
    codes: Codes,
    y: Data,
    label: Any,
    *,
    control_label: Any,
    estimator: Any = None,
    groups: Data | None = None,
    features: Data | None = None,
    n_features: int = 10,
    amounts: Data = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0),
    cv: Any = 5,
    n_random: int = 20,
    random_state: Seed = None,
) -> pd.DataFrame:
    r"""Add the features of a treatment to controls in steps, and see where they move.

    In every fold the features of the treatment are chosen on the training rows, and
    added to the held-out controls. The steered controls are compared with the held-out
    rows of the treatment and of all other classes.

    Parameters
    ----------
    codes : {array-like, sparse matrix or array} of shape (n_samples, n_components)
        Codes of the samples. A sparse input is never densified.

    y : array-like of shape (n_samples,)
        Labels: the controls, the treatment and, to compare with, other treatments.

    label : label
        The treatment.

    control_label : label
        The label of the controls in `y`.

    estimator : estimator, default=None
        Fitted dictionary, or Pipeline that ends in one. Distances are then measured
        between decoded rows, in the space of the rows that the dictionary takes. None
        measures distances between codes.

    groups : array-like of shape (n_samples,), default=None
        Groups that are split as a whole, such as wells or images.

    features : int, array-like of int or mask of shape (n_components,), default=None
        Features to add in every fold. They must have been chosen on other rows. None
        means the `n_features` that the treatment raises most.

    n_features : int, default=10
        Number of features that are chosen in every fold.

    amounts : array-like of float, default=(0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
        Sizes of the steps: 1 adds the difference between the means of the treatment and
        the controls.

    cv : int, splitter or iterable of (train, test), default=5
        Folds. An int is their number; they are stratified by `y`.

    n_random : int, default=20
        Number of random sets of features in every fold.

    random_state : int, RandomState instance or None, default=None
        Seed of the folds and of the random features.

    Returns
    -------
    runs : DataFrame
        One row for each fold, set of features and amount. Columns:

        - `fold`: number of the fold.
        - `added`: "treatment features", "all features" (the whole difference of the
          means, which is what steering can reach) or "random features".
        - `draw`: number of the random set; 0 for the others.
        - `amount`: size of the step.
        - `target_fraction`, `control_fraction`, `other_fraction`: fractions of the
          steered controls that are nearest to the mean of the treatment, of the
          controls, and of any other class. These are means of held-out rows.
        - `progress`: how far the step leads from the controls to the treatment, along
          the line between their held-out means; 1 is as far as the treatment.
        - `cosine_target`, `cosine_other`: cosine of the step with the direction from
          the controls to the treatment, and the largest cosine with the direction to
          any other class; 0 for no step, or where there is no such class.

    Raises
    ------
    ValueError
        If no sample has a label, if a fold holds out no controls or no treated samples,
        if the treatment raises no feature, or if lengths differ.

    See Also
    --------
    steer : Changes codes.
    skdict.inspection.SteeringCurveDisplay : Draws the table.

    Notes
    -----
    Features are ranked by the difference of the means of the treatment and the
    controls, over the standard deviation of both,

    .. math:: d_j = \frac{\bar z_{1j} - \bar z_{0j}}{s_j},

    of which the largest are taken. Features that the treatment lowers are not added.

    The null adds the same steps to other features, each of which is drawn from the ten
    that are used as often and as strongly as the one that it replaces. It says how far
    controls move towards the treatment by any change of this size.

    The decoder is linear, so the steered rows are not formed: what is needed are the
    products of the controls and of the steps with the means of the classes.

    Examples
    --------
    >>> import numpy as np
    >>> from skdict.concepts import steering_curve
    >>> rng = np.random.default_rng(0)
    >>> y = rng.choice(["control", "A", "B"], 300)
    >>> codes = rng.exponential(size=(300, 30))
    >>> codes[y == "A", :3] += 2
    >>> codes[y == "B", 5:8] += 2
    >>> runs = steering_curve(
    ...     codes, y, "A", control_label="control", n_features=3, cv=2, random_state=0
    ... )
    >>> at_one = runs[runs["amount"] == 1].groupby("added")["target_fraction"].mean()
    >>> at_one.round(1).to_dict()
    {'all features': 0.9, 'random features': 0.1, 'treatment features': 0.9}
    """
    codes = check_codes(codes)
    n_samples, n_components = codes.shape
    classes, ids = encode(y, "y", n_samples)
    target, control = (int(row_of(one, classes)[0]) for one in (label, control_label))
    if target == control:
        raise ValueError(f"label and control_label are both {label!r}.")
    group_ids = None
    if groups is not None:
        group_ids = encode(groups, "groups", n_samples)[1]
    chosen = None if features is None else as_features(features, n_components)
    steps = _check_amounts(amounts)
    rng = check_random_state(random_state)
    folds = make_folds(cv, {"y": ids}, group_ids, rng)
    rows = codes
    if estimator is not None:
        rows = decode(estimator, codes, to="dictionary")
    parts = []
    for i, (train, test) in enumerate(folds):
        sizes = np.bincount(ids[test], minlength=len(classes))
        for name, one in ((label, target), (control_label, control)):
            if not sizes[one] or not (ids[train] == one).any():
                raise ValueError(
                    f"Fold {i} has no rows of {name!r} to train on, or none held out."
                )
        means = _class_means(rows[test], ids[test], len(classes))
        place = _Place(rows[test][ids[test] == control], means, target, control)
        changes = _changes(
            codes[train],
            ids[train] == target,
            ids[train] == control,
            chosen,
            n_features,
        )
        sets = [
            ("treatment features", 0, changes.chosen),
            ("all features", 0, changes.all),
        ]
        use = FeatureUse(codes[train])
        for draw in range(n_random):
            drawn = np.zeros(n_components)
            drawn[use.matched(changes.features, rng)] = changes.chosen[changes.features]
            sets.append(("random features", draw, drawn))
        decoded = _decoded(estimator, np.stack([step for _, _, step in sets]))
        for (name, draw, _), step in zip(sets, decoded, strict=True):
            named = {"fold": i, "added": name, "draw": draw, "amount": steps}
            parts.append(pd.DataFrame(named | place.of_steps(step, steps)))
    return pd.concat(parts, ignore_index=True)


class _Changes(NamedTuple):
    features: np.ndarray  # indices of the chosen features
    chosen: np.ndarray  # of shape (n_components,): the step, 0 for other features
    all: np.ndarray  # the difference of the means


def _changes(
    codes: Codes,
    is_target: np.ndarray,
    is_control: np.ndarray,
    chosen: np.ndarray | None,
    n_features: int,
) -> _Changes:
    """Find the step from the controls to the treatment on training rows."""
    (mean, spread), (control_mean, control_spread) = (
        _moments(codes[rows]) for rows in (is_target, is_control)
    )
    difference = mean - control_mean
    size = np.maximum(np.abs(mean), np.abs(control_mean))
    least = _ROUNDING * size
    difference[np.abs(difference) <= least] = 0.0
    if chosen is None:
        deviation = np.sqrt((spread + control_spread) / 2)
        # A feature without spread tells the two apart with certainty, if it differs.
        score = difference / np.where(size > 0, np.maximum(deviation, least), 1.0)
        chosen = np.argsort(-score, kind="stable")[:n_features]
        chosen = chosen[score[chosen] > 0]
        if not len(chosen):
            raise ValueError("The treatment raises no feature above the controls.")
    step = np.zeros(len(difference))
    step[chosen] = difference[chosen]
    return _Changes(chosen, step, difference)


def _moments(codes: Codes) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of every feature."""
    n_samples, n_components = codes.shape
    codes = codes.astype(np.float64)
    mean = np.asarray(codes.sum(axis=0)).ravel() / n_samples
    if not sp.issparse(codes):
        return mean, np.square(codes - mean).mean(axis=0)
    squares = np.square(codes.data - mean[codes.indices])
    n_stored = np.bincount(codes.indices, minlength=n_components)
    total = np.bincount(codes.indices, squares, minlength=n_components)
    return mean, (total + (n_samples - n_stored) * mean**2) / n_samples


def _class_means(rows: Codes, ids: np.ndarray, n_classes: int) -> np.ndarray:
    """Means of the classes; NaN for those without rows."""
    sums = indicator(ids, n_classes).T @ rows.astype(np.float64)
    sums = sums.toarray() if hasattr(sums, "toarray") else np.asarray(sums)
    with np.errstate(invalid="ignore"):
        return sums / np.bincount(ids, minlength=n_classes)[:, None]


def _decoded(estimator: Any, steps: np.ndarray) -> np.ndarray:
    """Decode steps between codes to steps between rows."""
    if estimator is None:
        return steps
    nothing = np.zeros((1, steps.shape[1]))
    decoded = decode(estimator, np.concatenate([nothing, steps]), to="dictionary")
    return decoded[1:] - decoded[0]


class _Place:
    """Where steered controls are among the means of the classes."""

    def __init__(
        self, controls: Codes, means: np.ndarray, target: int, control: int
    ) -> None:
        there = ~np.isnan(means[:, 0])
        self.means = means[there]
        numbers = np.flatnonzero(there)
        self.is_target, self.is_control = numbers == target, numbers == control
        # Half the squared distance to each mean, without the part that all share.
        self.far = (self.means**2).sum(axis=1) / 2 - np.asarray(controls @ self.means.T)
        self.directions = self.means - self.means[self.is_control]

    def of_steps(self, step: np.ndarray, amounts: np.ndarray) -> dict[str, Any]:
        """Measure the steps of all amounts."""
        gain = self.means @ step
        nearest = np.stack(
            [(self.far - amount * gain).argmin(axis=1) for amount in amounts]
        )
        along = self.directions @ step
        squares = (self.directions**2).sum(axis=1)
        norms = np.sqrt(squares * (step @ step))
        cosines = np.where(norms > 0, along / np.where(norms > 0, norms, 1.0), 0.0)
        is_other = ~(self.is_target | self.is_control)
        to_target = squares[self.is_target][0]
        progress = along[self.is_target][0] / to_target if to_target > 0 else 0.0
        signs = np.sign(amounts)
        others = np.zeros(len(amounts))
        if is_other.any():
            others = (signs[:, None] * cosines[is_other]).max(axis=1)
        return {
            "target_fraction": self.is_target[nearest].mean(axis=1),
            "control_fraction": self.is_control[nearest].mean(axis=1),
            "other_fraction": is_other[nearest].mean(axis=1),
            "progress": amounts * progress,
            "cosine_target": signs * cosines[self.is_target][0],
            "cosine_other": others,
        }


def _check_amounts(amounts: Data) -> np.ndarray:
    steps = np.asarray(amounts)
    if steps.ndim != 1 or not len(steps) or steps.dtype.kind not in "iuf":
        raise ValueError("amounts must be a list of numbers.")
    steps = steps.astype(np.float64)
    if not np.isfinite(steps).all():
        raise ValueError("amounts must be finite.")
    return steps
