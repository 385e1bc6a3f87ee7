"""A step that replaces rows by their sparse reconstruction."""

from __future__ import annotations

from typing import Any

from sklearn.base import OneToOneFeatureMixin
from sklearn.utils.validation import check_is_fitted

from skdict._utils.steps import encode
from skdict._utils.types import AnyArray, Data
from skdict.decomposition._meta import _MetaTransformer
from skdict.rows import by_blocks

__all__ = ["Reconstructor"]


class Reconstructor(OneToOneFeatureMixin, _MetaTransformer):
    """Replace rows by their reconstruction from a dictionary.

    With it, a probe on reconstructions can be a Pipeline, as probes on rows or on
    codes are.

    Parameters
    ----------
    estimator : object
        A transformer with ``inverse_transform``, for instance :class:`ICFL`,
        :class:`TopKSAE` or :class:`~sklearn.decomposition.PCA`, or a Pipeline that
        ends in one. It is cloned, then fitted.

    Attributes
    ----------
    estimator_ : object
        The fitted clone.
    n_features_in_ : int
        Number of features seen during :meth:`fit`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features seen during :meth:`fit`, if all are strings.

    See Also
    --------
    ICFL : Dictionary with a pursuit encoder.
    TopKSAE : TopK sparse autoencoder.

    Notes
    -----
    Rows are passed on unchanged, so torch tensors work under array-API dispatch if they
    work in ``estimator``. No tag promises it, because ``estimator``, not this class,
    refuses arrays of another namespace.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.pipeline import make_pipeline
    >>> from skdict import ICFL, Reconstructor
    >>> from skdict.metrics import make_linear_probe
    >>> X, y = load_digits(return_X_y=True)
    >>> probe = make_pipeline(
    ...     Reconstructor(ICFL(128, 8, random_state=0)), make_linear_probe()
    ... )
    >>> probe.fit(X[:1000], y[:1000]).score(X[1000:], y[1000:]) > 0.8
    True
    """

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator

    @by_blocks
    def transform(self, X: Data) -> AnyArray:
        """Encode rows and decode them again.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        X_hat : array of shape (n_samples, n_features)
            Their reconstruction.
        """
        check_is_fitted(self)
        return self.estimator_.inverse_transform(encode(self.estimator_, X))
