"""Shorter codes from a transformer that is fitted once."""

from __future__ import annotations

import copy
from numbers import Integral
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.metrics import r2_score
from sklearn.pipeline import Pipeline
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted, check_memory

from skdict._utils.constraints import Interval
from skdict._utils.sklearn_private import HasMethods, align_api_if_sparse, num_samples
from skdict._utils.steps import encode, unfrozen
from skdict._utils.types import AnyArray, Codes, Data
from skdict.decomposition._base import FixedSparsity, default_k
from skdict.decomposition._meta import _MetaTransformer
from skdict.rows import by_blocks

__all__ = ["Truncator"]


class Truncator(_MetaTransformer):
    """Codes of at most ``k`` non-zeros from a transformer fitted for more.

    It serves two ends. A search over ``k`` trains the dictionary once per fold, for the
    largest ``k``, instead of once per candidate (see ``memory``). And the output of any
    transformer, such as principal components, becomes as sparse as the codes of a
    dictionary, so that the two can be compared at equal ``k``.

    Parameters
    ----------
    estimator : object
        A transformer with ``inverse_transform``. It is cloned, then fitted; one in
        a :class:`~sklearn.frozen.FrozenEstimator` is used as it is.
    k : int, default=None
        Largest number of non-zeros of a code. None keeps the codes that the estimator
        gives.
    memory : str or object with the joblib.Memory interface, default=None
        Where fitted estimators are kept. The candidates of a search that differ only
        in ``k`` then share one fit per fold. In a parallel search the first candidates
        may repeat it, because they start together. With ``random_state=None`` in the
        estimator, the candidates share one random draw.

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
    Reconstructor : Gives the reconstruction inside a Pipeline.

    Notes
    -----
    :class:`ICFL` and :class:`TopKSAE` encode with the smaller ``k``, also as the last
    step of a Pipeline. Pursuit is greedy, and its first steps do not depend on how many
    will follow: if ``k`` is a multiple of ``atoms_per_step``, the shorter code is that
    of the first ``k / atoms_per_step`` steps. Any other transformer's output keeps the
    ``k`` entries of largest magnitude in each row; of equal entries, the first.

    A search compares codes of one dictionary, which was trained for the largest ``k``.
    A dictionary that is trained for a smaller ``k`` is better at that ``k``, and more
    so the smaller it is. Fit that dictionary once ``k`` is chosen.

    Examples
    --------
    A search over ``k`` with one fit per fold:

    >>> import tempfile
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.model_selection import GridSearchCV
    >>> from skdict import ICFL, Truncator
    >>> X, _ = load_digits(return_X_y=True)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     truncator = Truncator(ICFL(128, 16, random_state=0), memory=folder)
    ...     search = GridSearchCV(truncator, {"k": [2, 4, 8, 16]}, cv=3).fit(X)
    >>> search.best_params_
    {'k': 16}

    The four largest of ten principal components, row by row:

    >>> from sklearn.decomposition import PCA
    >>> codes = Truncator(PCA(10), k=4).fit_transform(X)
    >>> codes.shape, int((codes != 0).sum(axis=1).max())
    ((1797, 10), 4)
    """

    _parameter_constraints: dict = {
        **_MetaTransformer._parameter_constraints,
        "k": [Interval(Integral, 1, None, closed="left"), None],
        "memory": [str, HasMethods(["cache"]), None],
    }

    def __init__(
        self, estimator: Any, k: int | None = None, *, memory: Any = None
    ) -> None:
        self.estimator = estimator
        self.k = k
        self.memory = memory

    def _fit_clone(self, X: Data, y: Data | None, params: dict[str, Any]) -> Any:
        return check_memory(self.memory).cache(_fit)(
            clone(self.estimator), X, y, params
        )

    @by_blocks
    def transform(self, X: Data) -> Codes:
        """Encode rows with at most ``k`` non-zeros.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to encode.

        Returns
        -------
        codes : CSR matrix or array of shape (n_samples, n_components)
            The codes, sparse or dense as the estimator gives them.

        Raises
        ------
        ValueError
            If ``k`` is larger than the ``k`` for which the estimator was fitted, if
            the estimator refuses ``X``, or if it gives NaN or infinity.
        """
        check_is_fitted(self)
        shorter = _shorter(self.estimator_, self.k)
        if shorter is not None:
            return encode(shorter, X)
        codes = encode(self.estimator_, X)
        if self.k is not None:
            codes = _keep_largest(codes, self.k)
        return align_api_if_sparse(codes)

    def inverse_transform(self, X: Codes) -> AnyArray:
        """Reconstruct rows from their codes, as the estimator does.

        Parameters
        ----------
        X : CSR matrix or array-like of shape (n_samples, n_components)
            Codes.

        Returns
        -------
        X_hat : array of shape (n_samples, n_features)
            The reconstruction.
        """
        check_is_fitted(self)
        return self.estimator_.inverse_transform(X)

    def score(self, X: Data, y: object = None) -> float:
        """Explained variance of the reconstruction from the shorter codes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows to encode and to reconstruct; at least two, unless the estimator
            is a dictionary of this library.
        y : Ignored
            Not used, present for the API's sake.

        Returns
        -------
        float
            ``1 - ||X - X_hat||^2 / ||X - mean||^2``, at most 1.

        Raises
        ------
        ValueError
            If there is a single row, whose variance is not defined.
        """
        check_is_fitted(self)
        dictionary = unfrozen(self.estimator_)
        if isinstance(dictionary, FixedSparsity):
            return _shorter(dictionary, self.k).score(X)
        if num_samples(X) < 2:
            raise ValueError(
                "The explained variance needs at least two rows, but n_samples = 1."
            )
        X_hat = self.inverse_transform(encode(self, X))
        return float(r2_score(X, X_hat, multioutput="variance_weighted"))

    def get_feature_names_out(self, input_features: Data | None = None) -> np.ndarray:
        """Names of the estimator's features.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Passed on to the estimator.

        Returns
        -------
        feature_names_out : ndarray of str objects
            The names.
        """
        check_is_fitted(self)
        return self.estimator_.get_feature_names_out(input_features)


def _shorter(estimator: Any, k: int | None) -> Any:
    """Give a fitted dictionary, or a Pipeline that ends in one, the smaller k.

    Returns None for other transformers.
    """
    estimator = unfrozen(estimator)
    if isinstance(estimator, Pipeline):
        *before, (name, last) = estimator.steps
        last = _shorter(last, k)
        if last is None:
            return None
        estimator = copy.copy(estimator)
        estimator.steps = [*before, (name, last)]
        return estimator
    if not isinstance(estimator, FixedSparsity):
        return None
    if k is None:
        return estimator
    fitted_k = estimator.k or default_k(estimator.n_features_in_)
    if k > fitted_k:
        raise ValueError(
            f"k={k} is larger than k={fitted_k}, for which the "
            f"{type(estimator).__name__} was fitted: codes can only be made "
            "shorter. Give the estimator the largest k of the search."
        )
    # A shallow copy shares the fitted arrays.
    return copy.copy(estimator).set_params(k=k)


def _fit(estimator: Any, X: Data, y: Data | None, params: dict[str, Any]) -> Any:
    """Fit, in a free function, which joblib finds again in another process."""
    return estimator.fit(X, y, **params)


def _keep_largest(codes: Codes, k: int) -> Codes:
    """Set all but the ``k`` entries of largest magnitude of each row to zero."""
    # Frames become arrays; the Truncator's own set_output makes them frames again.
    codes = check_array(codes, accept_sparse="csr", input_name="codes")
    if sp.issparse(codes):
        return _keep_largest_sparse(codes, k)
    if k >= codes.shape[1]:
        return codes
    kept = np.argsort(-_magnitudes(codes), axis=1, kind="stable")[:, :k]
    shorter = np.zeros_like(codes)
    np.put_along_axis(shorter, kept, np.take_along_axis(codes, kept, axis=1), axis=1)
    return shorter


def _keep_largest_sparse(codes: Codes, k: int) -> sp.csr_matrix:
    if not codes.has_canonical_format:
        codes = codes.copy()
        codes.sum_duplicates()
    n_active = np.diff(codes.indptr)
    row = np.repeat(np.arange(codes.shape[0]), n_active)
    # Entries by row and, within it, by falling magnitude; sorting is stable.
    order = np.lexsort((-_magnitudes(codes.data), row))
    rank = np.arange(codes.nnz) - np.repeat(codes.indptr[:-1], n_active)
    kept = np.sort(order[rank < k])
    indptr = np.concatenate(([0], np.cumsum(np.minimum(n_active, k))))
    return sp.csr_matrix(
        (codes.data[kept], codes.indices[kept], indptr), shape=codes.shape
    )


def _magnitudes(values: np.ndarray) -> np.ndarray:
    """Absolute values as floats: negating unsigned integers would wrap around."""
    if values.dtype.kind != "f":
        values = values.astype(np.float64)
    return np.abs(values)
