"""What the meta-transformers share: fitting the estimator, routing, tags."""

from __future__ import annotations

from typing import Any, Self

from sklearn.base import BaseEstimator, MetaEstimatorMixin, TransformerMixin, clone
from sklearn.utils import Tags, get_tags
from sklearn.utils.metadata_routing import (
    MetadataRouter,
    MethodMapping,
    process_routing,
)
from sklearn.utils.validation import validate_data

from skdict._guards import unchanged_on_error
from skdict._utils.fitted import Count, Fitted, IfThere, Names, Transformer
from skdict._utils.sklearn_private import HasMethods, fit_context, raise_for_params
from skdict._utils.types import Data


class _MetaTransformer(MetaEstimatorMixin, TransformerMixin, BaseEstimator):
    """Base of the estimators that fit a transformer and change what it gives."""

    _parameter_constraints: dict = {
        "estimator": [HasMethods(["fit", "transform", "inverse_transform"])]
    }

    _fitted: tuple[dict[str, Fitted], ...] = (
        {
            "n_features_in_": IfThere(Count("n_features", low=1)),
            "feature_names_in_": IfThere(Names("n_features")),
            "estimator_": Transformer(("transform", "inverse_transform")),
        },
    )

    @fit_context(prefer_skip_nested_validation=False)
    @unchanged_on_error
    def fit(self, X: Data, y: Data | None = None, **params: Any) -> Self:
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
        raise_for_params(params, self, "fit")
        routed = process_routing(self, "fit", **params)
        self.estimator_ = self._fit_clone(X, y, routed.estimator.fit)
        validate_data(self, X, skip_check_array=True)
        return self

    def _fit_clone(self, X: Data, y: Data | None, params: dict[str, Any]) -> Any:
        return clone(self.estimator).fit(X, y, **params)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "estimator_")

    def get_metadata_routing(self) -> MetadataRouter:
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

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        inner = get_tags(self.estimator)
        tags.input_tags = inner.input_tags
        tags.transformer_tags = inner.transformer_tags
        return tags
