"""Other libraries' steps on rows that are read later."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import (
    BaseEstimator,
    MetaEstimatorMixin,
    OneToOneFeatureMixin,
    TransformerMixin,
    clone,
)
from sklearn.utils import Tags, get_tags
from sklearn.utils.validation import check_is_fitted, validate_data

from skdict._guards import unchanged_on_error
from skdict._utils.fitted import Count, Fitted, IfThere, Names, Transformer
from skdict._utils.sklearn_private import HasMethods, fit_context
from skdict._utils.types import AnyArray, Data
from skdict.rows import is_deferred, map_row_blocks

__all__ = ["InMemory", "RowwiseTransformer"]


class RowwiseTransformer(MetaEstimatorMixin, TransformerMixin, BaseEstimator):
    """Apply a transformer block by block to rows that are read later.

    scikit-learn's transformers read the whole table. Inside this one, a transformer
    that treats every row by itself gives a Dask array for rows in zarr, HDF5 or Dask,
    of which nothing is computed yet. Arrays in memory go through it as ever.

    Parameters
    ----------
    estimator : transformer
        One that learns nothing from the rows, for instance
        :class:`~sklearn.preprocessing.Normalizer`. One that learns from them must be
        fitted before, on rows in memory, and be wrapped in
        :class:`~sklearn.frozen.FrozenEstimator`.

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
    InMemory : Computes Dask arrays, for a last step that needs all rows.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.preprocessing import Normalizer
    >>> from skdict.preprocessing import RowwiseTransformer
    >>> X = np.array([[3.0, 4.0], [0.0, 2.0]])
    >>> RowwiseTransformer(Normalizer()).fit_transform(X)
    array([[0.6, 0.8],
           [0. , 1. ]])
    """

    _parameter_constraints: dict = {"estimator": [HasMethods(["fit", "transform"])]}

    _fitted: tuple[dict[str, Fitted], ...] = (
        {
            "n_features_in_": IfThere(Count("n_features", low=1)),
            "feature_names_in_": IfThere(Names("n_features")),
            "estimator_": Transformer(("transform",)),
        },
    )

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator

    @fit_context(prefer_skip_nested_validation=False)
    @unchanged_on_error
    def fit(self, X: Data, y: Data | None = None) -> Self:
        """Fit a clone of the transformer; of rows that are read later, to one row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows.
        y : array-like of shape (n_samples,), default=None
            Passed on to the transformer.

        Returns
        -------
        self : object
            The fitted transformer.

        Raises
        ------
        ValueError
            If the rows are read later and the transformer has to learn from them.
        """
        transformer = clone(self.estimator)
        if not is_deferred(X):
            self.estimator_ = transformer.fit(X, y)
        elif get_tags(transformer).requires_fit and not _is_fitted(transformer):
            raise ValueError(
                f"{type(transformer).__name__} learns from the rows, and these are "
                "read later: fit it to rows in memory first, for instance to a sample "
                "of them, and pass FrozenEstimator(fitted)."
            )
        else:
            one = np.zeros((min(1, X.shape[0]), *X.shape[1:]), X.dtype)
            self.estimator_ = transformer.fit(one, None)
        validate_data(self, X, skip_check_array=True)
        return self

    def transform(self, X: Data) -> AnyArray:
        """Transform rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        X_new : array or dask.array.Array of shape (n_samples, n_features_out)
            What the transformer gives; a Dask array if the rows are read later.
        """
        check_is_fitted(self)
        if is_deferred(X):
            validate_data(self, X, reset=False, skip_check_array=True)
            return map_row_blocks(self.estimator_, "transform", X)
        return self.estimator_.transform(X)

    def get_feature_names_out(self, input_features: Data | None = None) -> np.ndarray:
        """Names of the transformer's outputs.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Passed on to the transformer.

        Returns
        -------
        feature_names_out : ndarray of str objects
            The names.
        """
        check_is_fitted(self)
        return self.estimator_.get_feature_names_out(input_features)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "estimator_")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        inner = get_tags(self.estimator)
        tags.input_tags = inner.input_tags
        tags.transformer_tags = inner.transformer_tags
        return tags


class InMemory(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Compute a Dask array, and pass other rows on.

    It stands between steps that keep rows unread and a step that needs all of them, for
    instance between a dictionary, whose codes of many rows are small, and a probe.

    Attributes
    ----------
    n_features_in_ : int
        Number of features seen during :meth:`fit`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features seen during :meth:`fit`, if all are strings.

    See Also
    --------
    RowwiseTransformer : Keeps a scikit-learn step from reading all rows.

    Examples
    --------
    >>> import dask.array as da
    >>> from skdict.preprocessing import InMemory
    >>> InMemory().fit_transform(da.zeros((2, 3)))
    array([[0., 0., 0.],
           [0., 0., 0.]])
    """

    _parameter_constraints: dict = {}

    _fitted: tuple[dict[str, Fitted], ...] = (
        {
            "n_features_in_": Count("n_features", low=1),
            "feature_names_in_": IfThere(Names("n_features")),
        },
    )

    @unchanged_on_error
    def fit(self, X: Data, y: object = None) -> Self:
        """Remember the number of features.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n_samples, n_features)
            Rows or codes.
        y : Ignored
            Not used, present for the API's sake.

        Returns
        -------
        self : object
            The fitted step.
        """
        self._check(X, reset=True)
        return self

    def transform(self, X: Data) -> AnyArray:
        """Compute a Dask array.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n_samples, n_features)
            Rows or codes.

        Returns
        -------
        X : array or CSR matrix of shape (n_samples, n_features)
            What Dask computes, or X as an array.
        """
        check_is_fitted(self)
        X = self._check(X, reset=False)
        return X.compute() if hasattr(X, "dask") else X

    def _check(self, X: Data, *, reset: bool) -> AnyArray:
        is_dask = hasattr(X, "dask")
        options = {"skip_check_array": True} if is_dask else {"accept_sparse": "csr"}
        return validate_data(self, X, reset=reset, **options)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "n_features_in_")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _is_fitted(transformer: Any) -> bool:
    try:
        check_is_fitted(transformer)
    except Exception:
        return False
    return True
