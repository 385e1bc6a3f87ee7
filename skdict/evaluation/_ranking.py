"""Order the features by what they say about the labels of the training rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import clone

from skdict._utils.sklearn_private import HasMethods, StrOptions
from skdict._utils.steps import steps_of
from skdict._utils.types import Codes
from skdict.stats import (
    largest_differences,
    largest_values,
    scale_codes,
    squares_between,
)

RANKING_CONSTRAINT: list[Any] = [
    StrOptions({"f_statistic", "mean_difference"}),
    HasMethods(["fit", "predict"]),
]


class Ranker:
    """The training rows of a fold, prepared for many labellings.

    Parameters
    ----------
    codes : {ndarray, csr_array, csr_matrix} of shape (n_samples, n_components)
        From `check_codes`.
    ranking : {"f_statistic", "mean_difference"} or classifier
        As in :func:`sparse_probing`.
    """

    def __init__(self, codes: Codes, ranking: Any) -> None:
        self.codes = codes
        self.ranking = ranking
        if not isinstance(ranking, str):
            return
        self.scaled, squares = scale_codes(codes)
        self.means = self.scaled.sum(axis=0) / codes.shape[0]
        self.varies = squares > 0
        self.squares = np.where(self.varies, squares, 1.0)
        # Of these the largest is 1, so that differences stay finite.
        self.units = largest_values(codes)
        self.units = np.where(self.varies, self.units, 0.0)
        self.units /= max(self.units.max(), np.finfo(float).tiny)

    def order(self, labels: np.ndarray) -> np.ndarray:
        """Indices of the features, the best first; of equal ones the first."""
        return np.argsort(-self.score(labels), kind="stable")

    def score(self, labels: np.ndarray) -> np.ndarray:
        """Score of each feature, for labels numbered from 0 without gaps."""
        if not isinstance(self.ranking, str):
            return _importance(clone(self.ranking).fit(self.codes, labels))
        if labels.max() == 0:
            return np.zeros(self.codes.shape[1])
        if self.ranking == "mean_difference":
            return self.units * largest_differences(self.scaled, labels, self.means)
        # F grows with this fraction, which is finite where F is not.
        between = squares_between(self.scaled, labels, self.means)
        return np.where(self.varies, between / self.squares, 0.0)


def varying(codes: Codes) -> np.ndarray:
    """Mask of the features that are not constant."""
    return scale_codes(codes)[1] > 0


def _importance(fitted: Any) -> np.ndarray:
    """Sum of the absolute coefficients over the classes, or the importances."""
    last = (steps_of(fitted) or [fitted])[-1]
    if hasattr(last, "coef_"):
        return np.abs(np.atleast_2d(last.coef_)).sum(axis=0)
    if hasattr(last, "feature_importances_"):
        return np.asarray(last.feature_importances_)
    raise TypeError(
        "ranking must be a classifier with coef_ or feature_importances_, got "
        f"{last!r}."
    )
