"""A step that replaces rows by their sparse reconstruction."""

from __future__ import annotations

from sklearn.base import OneToOneFeatureMixin
from sklearn.utils.validation import check_is_fitted

from skdict._utils.steps import encode
from skdict.decomposition._meta import _MetaTransformer

__all__ = ["Reconstructor"]


class Reconstructor(OneToOneFeatureMixin, _MetaTransformer):
    """Replace rows by what a fitted dictionary can rebuild of them.

    A meta-transformer: probes on reconstructions then fit into a Pipeline as
    probes on rows or on codes do.

    Parameters
    ----------
    estimator : object
        A transformer with ``inverse_transform``, for instance :class:`ICFL`,
        :class:`TopKSAE` or :class:`~sklearn.decomposition.PCA`, or a Pipeline of
        such. It is cloned, then fitted.

    Attributes
    ----------
    estimator_ : object
        The fitted clone.
    n_features_in_ : int
        Number of features seen during :meth:`fit`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features seen during :meth:`fit`, where all are strings.

    See Also
    --------
    ICFL : Dictionary with a pursuit encoder.
    TopKSAE : TopK sparse autoencoder.

    Notes
    -----
    Rows are passed on as they come, so torch tensors work under array-API dispatch
    where they work in ``estimator``; there is no tag to promise it, because an
    array of another namespace is refused by ``estimator``, not here.

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

    def __init__(self, estimator):
        self.estimator = estimator

    def transform(self, X):
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
