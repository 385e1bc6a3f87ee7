"""A pipeline step that takes out the features that follow the batch."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from skdict._guards import unchanged_on_error
from skdict._utils.checks import as_floats, readable
from skdict._utils.constraints import Interval
from skdict._utils.fitted import Array, Count, IfThere, Names, OrNone
from skdict._utils.labels import encode
from skdict._utils.sklearn_private import RealNotInt, align_api_if_sparse, fit_context
from skdict._utils.types import Codes, Data, Seed
from skdict._utils.warn import warn
from skdict.rows import by_blocks
from skdict.stats import (
    Exchange,
    VarianceInside,
    can_permute,
    check_codes,
    encode_groups,
)

from ._edit import ablate

# Fractions of variance that should be equal differ by less, relatively.
_ROUNDING = 1e-9


class FeatureSuppressor(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    r"""Take the features out of the codes that follow the batch beyond chance.

    It is the step after the dictionary in a Pipeline. `fit` finds the features whose
    values differ between batches, among samples of one class; `transform` sets them to
    zero.

    Parameters
    ----------
    min_omega_squared : float, default=0.01
        A feature is taken out if the batch explains at least this fraction of its
        variance inside classes, and more than chance does.

    max_features : int, float or None, default=None
        At most this number of features are taken out, or, for a float in (0, 1), this
        fraction of all features: those that follow the batch most. None sets no limit.

    alpha : float, default=0.05
        Probability with which any feature is taken out although none follows the
        batch.

    within_classes : bool, default=True
        Whether batches are compared among samples of the same class, if `fit` gets
        `y`. A feature of a phenotype that is more frequent in one batch is then kept.
        Pass False if `y` holds no classes.

    n_permutations : int, default=100
        Number of permutations of the batches for the null. 0 tests nothing: then
        `min_omega_squared` and `max_features` decide alone.

    random_state : int, RandomState instance or None, default=None
        Seed of the permutations.

    Attributes
    ----------
    is_suppressed_ : ndarray of bool of shape (n_features_in_,)
        Which features are taken out.

    omega_squared_ : ndarray of shape (n_features_in_,)
        Fraction of the variance of each feature inside classes that the batch explains,
        less what this number of batches explains by chance.

    p_values_ : ndarray of shape (n_features_in_,) or None
        Adjusted p-value of each feature: the fraction of the permutations in which any
        feature follows the batch as much. None if nothing was tested.

    n_features_in_ : int
        Number of features of the codes.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if the codes had names and all are strings.

    Warns
    -----
    UserWarning
        If `fit` gets no `batch`: no feature is taken out then.

    See Also
    --------
    skdict.concepts.ablate : Takes out features that you name.
    skdict.concepts.suppression_report : What it does to the predictability of batches
        and labels.
    skdict.metrics.describe_features : Which features follow a confound, by their
        activity.

    Notes
    -----
    With the residuals :math:`r` of a feature about its class means, and
    :math:`SS_b` the part of their sum of squares that a linear model of class and batch
    owes to the batch,

    .. math::

        \eta^2 = \frac{SS_b}{r^\top r}, \qquad
        \omega^2 = \frac{SS_b - d\,s^2}{r^\top r + s^2}, \quad
        s^2 = \frac{r^\top r - SS_b}{n - c - d},

    for :math:`n` samples, :math:`c` classes and :math:`d` degrees of freedom of the
    batch. The null permutes the batches of the samples inside the classes (of whole
    `groups`, if they are given) and keeps the largest :math:`\eta^2` of all features,
    which corrects for their number [1]_. A class whose samples are all of one batch
    says nothing about batches.

    `inverse_transform` returns codes as they are, so a Pipeline that ends in this step
    decodes what is left: see :func:`~skdict.concepts.decode`. With
    ``set_config(enable_metadata_routing=True)``, `batch` and `groups` reach this step
    from the `fit` of the Pipeline, and from a search, which can choose its parameters.

    References
    ----------
    .. [1] P. H. Westfall and S. S. Young. "Resampling-based multiple testing." Wiley,
       1993.

    Examples
    --------
    >>> import numpy as np
    >>> from skdict.concepts import FeatureSuppressor
    >>> rng = np.random.default_rng(0)
    >>> y, batch = rng.integers(0, 2, 200), rng.integers(0, 4, 200)
    >>> codes = rng.random((200, 5))
    >>> codes[:, 1] += y
    >>> codes[:, 3] += batch == 2
    >>> suppressor = FeatureSuppressor(random_state=0).fit(codes, y, batch=batch)
    >>> suppressor.is_suppressed_.nonzero()[0]
    array([3])
    >>> suppressor.transform(codes)[0].round(1)
    array([0.3, 1.2, 0.7, 0. , 0.6])
    """

    __metadata_request__fit = {"batch": True, "groups": True}

    _parameter_constraints: dict = {
        "min_omega_squared": [Interval(Real, 0, 1, closed="both")],
        "max_features": [
            Interval(Integral, 0, None, closed="left"),
            Interval(RealNotInt, 0, 1, closed="neither"),
            None,
        ],
        "alpha": [Interval(Real, 0, 1, closed="right")],
        "within_classes": ["boolean"],
        "n_permutations": [Interval(Integral, 0, None, closed="left")],
        "random_state": ["random_state"],
    }

    _fitted = (
        {
            "n_features_in_": Count("n_features", low=1),
            "feature_names_in_": IfThere(Names("n_features")),
            "is_suppressed_": Array(("n_features",), kind="b"),
            "omega_squared_": Array(("n_features",)),
            "p_values_": OrNone(Array(("n_features",), above=0)),
        },
    )

    def __init__(
        self,
        *,
        min_omega_squared: float = 0.01,
        max_features: int | float | None = None,
        alpha: float = 0.05,
        within_classes: bool = True,
        n_permutations: int = 100,
        random_state: Seed = None,
    ) -> None:
        self.min_omega_squared = min_omega_squared
        self.max_features = max_features
        self.alpha = alpha
        self.within_classes = within_classes
        self.n_permutations = n_permutations
        self.random_state = random_state

    @fit_context(prefer_skip_nested_validation=True)
    @unchanged_on_error
    def fit(
        self,
        X: Codes,
        y: Data | None = None,
        *,
        batch: Data | None = None,
        groups: Data | None = None,
    ) -> Self:
        """Find the features that follow the batch.

        Parameters
        ----------
        X : {array-like, sparse matrix or array} of shape (n_samples, n_components)
            Codes. A sparse input is never densified.

        y : array-like of shape (n_samples,), default=None
            Classes, inside which batches are compared.

        batch : array-like of shape (n_samples,), default=None
            Experimental batch of each sample.

        groups : array-like of shape (n_samples,), default=None
            Groups whose samples share batch and class, such as the wells of cells: the
            batches of whole groups are permuted.

        Returns
        -------
        self : FeatureSuppressor
            The fitted step.

        Raises
        ------
        ValueError
            If the codes are not finite, if `batch` holds a single one, or if no class
            has samples of two batches.
        """
        codes = check_codes(self._check(X, reset=True))
        n_components = codes.shape[1]
        p_values = None
        if batch is None:
            warn(
                "No batch was passed to fit, so no feature is taken out. In a "
                "Pipeline, pass batch after "
                "set_config(enable_metadata_routing=True), or as "
                "featuresuppressor__batch."
            )
            omega = np.zeros(n_components)
            found = np.zeros(n_components, dtype=bool)
        else:
            eta, omega, p_values = self._test(codes, y, batch, groups)
            found = (omega >= self.min_omega_squared) & (eta > 0)
            if p_values is not None:
                found &= p_values <= self.alpha
        if self.max_features is not None:
            limit = self.max_features
            # Of what is allowed, only a fraction lies between 0 and 1.
            limit = int(limit * n_components if 0 < limit < 1 else limit)
            order = np.argsort(np.where(found, -omega, np.inf), kind="stable")
            found[order[limit:]] = False
        self.is_suppressed_, self.omega_squared_ = found, omega
        self.p_values_ = p_values
        return self

    def _test(
        self, codes: Codes, y: Data | None, batch: Data, groups: Data | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        n_samples = codes.shape[0]
        levels, ids = encode(batch, "batch", n_samples)
        if len(levels) < 2:
            raise ValueError(f"batch has the value {levels[0]} for all samples.")
        strata, n_strata = None, 1
        if y is not None and self.within_classes:
            classes, strata = encode(y, "y", n_samples)
            n_strata = len(classes)
            if not can_permute(ids, strata):
                raise ValueError(
                    "No class has samples of two batches, so nothing tells a feature "
                    "of a batch from one of its class."
                )
        shared = {"batch": batch, "y": None if strata is None else y}
        group_ids = encode_groups(groups, n_samples, shared)
        variance = VarianceInside(codes, strata)
        eta, rank = variance.eta_squared(ids)
        n_left = n_samples - n_strata - rank
        if n_left < 1:
            raise ValueError(
                f"{n_samples} samples of {n_strata} classes and {len(levels)} batches "
                "leave no variance inside classes and batches: more samples are needed."
            )
        rest = (1 - eta) / n_left
        omega = np.where(eta > 0, (eta - rank * rest) / (1 + rest), 0.0)
        if not self.n_permutations:
            return eta, omega, None
        rng = check_random_state(self.random_state)
        permuted = Exchange(strata, group_ids).permuted(ids, self.n_permutations, rng)
        null = np.sort(variance.null_of_largest(permuted))
        reached = len(null) - np.searchsorted(null, eta * (1 - _ROUNDING))
        return eta, omega, (1 + reached) / (1 + len(null))

    @by_blocks
    def transform(self, X: Codes) -> Codes:
        """Set the features that follow the batch to zero.

        Parameters
        ----------
        X : {array-like, sparse matrix or array} of shape (n_samples, n_components)
            Codes.

        Returns
        -------
        codes : ndarray or CSR matrix or array of shape (n_samples, n_components)
            A copy without these features; sparse if `X` is.
        """
        check_is_fitted(self)
        codes = ablate(self._check(X, reset=False), self.is_suppressed_)
        return align_api_if_sparse(codes)

    @by_blocks
    def inverse_transform(self, X: Codes) -> Codes:
        """Return codes as they are: what was taken out is not known any more.

        Parameters
        ----------
        X : {array-like, sparse matrix or array} of shape (n_samples, n_components)
            Codes.

        Returns
        -------
        codes : ndarray or CSR matrix or array of shape (n_samples, n_components)
            The codes.
        """
        check_is_fitted(self)
        return self._check(X, reset=False)

    def _check(self, X: Codes, *, reset: bool) -> Any:
        return as_floats(
            validate_data(self, readable(X), reset=reset, accept_sparse="csr")
        )

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "is_suppressed_")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
