"""A step that replaces rows by their sparse reconstruction."""

from __future__ import annotations

from sklearn import config_context
from sklearn.base import (
    BaseEstimator,
    MetaEstimatorMixin,
    OneToOneFeatureMixin,
    TransformerMixin,
    _fit_context,
    clone,
)
from sklearn.utils import get_tags
from sklearn.utils._metadata_requests import (
    MetadataRouter,
    MethodMapping,
    _raise_for_params,
)
from sklearn.utils._param_validation import HasMethods
from sklearn.utils.metadata_routing import process_routing
from sklearn.utils.validation import check_is_fitted, validate_data

__all__ = ["Reconstructor"]


class Reconstructor(
    OneToOneFeatureMixin, MetaEstimatorMixin, TransformerMixin, BaseEstimator
):
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
    >>> from skdict import ICFL, Reconstructor, make_linear_probe
    >>> X, y = load_digits(return_X_y=True)
    >>> probe = make_pipeline(
    ...     Reconstructor(ICFL(128, 8, random_state=0)), make_linear_probe()
    ... )
    >>> probe.fit(X[:1000], y[:1000]).score(X[1000:], y[1000:]) > 0.8
    True
    """

    _parameter_constraints: dict = {
        "estimator": [HasMethods(["fit", "transform", "inverse_transform"])]
    }

    def __init__(self, estimator):
        self.estimator = estimator

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y=None, **params):
        """Fit a clone of the estimator.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data.
        y : array-like of shape (n_samples,), default=None
            Passed on to the estimator.
        **params : dict
            Metadata for the estimator's ``fit``, for instance a control mask;
            needs ``sklearn.set_config(enable_metadata_routing=True)``.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If there are metadata while routing is off.
        """
        _raise_for_params(params, self, "fit")
        routed = process_routing(self, "fit", **params)
        self.estimator_ = clone(self.estimator).fit(X, y, **routed.estimator.fit)
        validate_data(self, X, skip_check_array=True)
        return self

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
        # The codes are no one's output: a global set_output must not make a frame
        # of them.
        with config_context(transform_output="default"):
            return self.estimator_.inverse_transform(self.estimator_.transform(X))

    def get_metadata_routing(self):
        """Route the metadata of ``fit`` to the estimator.

        Returns
        -------
        routing : MetadataRouter
            The routing.
        """
        return MetadataRouter(owner=self).add(
            estimator=self.estimator,
            method_mapping=MethodMapping().add(caller="fit", callee="fit"),
        )

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        inner = get_tags(self.estimator)
        tags.input_tags = inner.input_tags
        tags.transformer_tags = inner.transformer_tags
        return tags
