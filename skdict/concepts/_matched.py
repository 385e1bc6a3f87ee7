"""Random features that are active as often and as strongly as given ones."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from skdict._utils.types import Codes

# Each feature is replaced by one of this number of features that are most like it.
_CANDIDATES = 10


class FeatureUse:
    """Frequency and energy of every feature.

    Parameters
    ----------
    codes : {ndarray, csr_matrix, csr_array} of shape (n_samples, n_components)
        From `check_codes`.
    """

    def __init__(self, codes: Codes) -> None:
        self.n_samples, n_components = codes.shape
        if sp.issparse(codes):
            values = codes.data.astype(np.float64)
            columns = codes.indices
        else:
            active = np.nonzero(codes)
            values, columns = codes[active].astype(np.float64), active[1]
        is_active = values != 0
        self.n_active = np.bincount(columns, is_active, minlength=n_components)
        # Squares of very large or very small numbers would be infinite or zero.
        largest = np.abs(values).max(initial=0.0) or 1.0
        self.energy = np.bincount(
            columns, (values / largest) ** 2, minlength=n_components
        )

    def removed(self, features: np.ndarray) -> dict[str, float]:
        """What is lost without features: active features a row, fraction of energy."""
        total = self.energy.sum() or 1.0
        return {
            "l0_removed": float(self.n_active[features].sum() / self.n_samples),
            "energy_removed": float(self.energy[features].sum() / total),
        }

    def matched(self, features: np.ndarray, rng: np.random.RandomState) -> np.ndarray:
        """Draw as many other features, one for each, that are used alike.

        Parameters
        ----------
        features : ndarray of shape (n_features,)
            Indices; none of them is drawn, and none twice.
        rng : RandomState
            Source of the draw.

        Returns
        -------
        drawn : ndarray of shape (n_features,)
            The feature that takes the place of each.
        """
        is_free = np.ones(len(self.n_active), dtype=bool)
        is_free[features] = False
        if len(features) > is_free.sum():
            raise ValueError(
                f"{len(features)} of {len(is_free)} features are chosen, so there are "
                "not as many others for the null: choose fewer."
            )
        # Dead features lie far from all others, and near each other.
        used = np.column_stack([self.n_active, self.energy])
        least = np.where(used > 0, used, np.inf).min(axis=0)
        used = np.log(
            np.where(used > 0, used, np.where(least < np.inf, least, 1) / 1e6)
        )
        drawn = np.empty(len(features), dtype=np.intp)
        for i in rng.permutation(len(features)):
            free = np.flatnonzero(is_free)
            distances = ((used[free] - used[features[i]]) ** 2).sum(axis=1)
            if len(free) > _CANDIDATES:
                free = free[np.argpartition(distances, _CANDIDATES)[:_CANDIDATES]]
            drawn[i] = rng.choice(free)
            is_free[drawn[i]] = False
        return drawn
