"""From codes back to embeddings, through the steps before the dictionary."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from sklearn import config_context
from sklearn.preprocessing import Normalizer
from sklearn.utils.validation import check_is_fitted

from skdict._utils.checks import as_numpy, check_finite
from skdict._utils.sklearn_private import (
    StrOptions,
    num_samples,
    validate_params,
)
from skdict._utils.steps import encode, plain, routed, steps_of, unfrozen
from skdict._utils.types import Codes, Data
from skdict.preprocessing import RowwiseTransformer

from ._suppressor import FeatureSuppressor


@validate_params(
    {
        "X": ["array-like", None],
        "to": [StrOptions({"input", "dictionary"})],
        "keep_error": ["boolean"],
        "params": [dict, None],
    },
    prefer_skip_nested_validation=True,
)
def decode(
    estimator: Any,
    codes: Codes,
    X: Data | None = None,
    *,
    to: str = "input",
    keep_error: bool = True,
    params: dict[str, Data] | None = None,
) -> np.ndarray:
    r"""Decode edited codes to embeddings.

    Parameters
    ----------
    estimator : estimator
        Fitted dictionary, or Pipeline that ends in one or in a dictionary and a
        :class:`~skdict.FeatureSuppressor`.

    codes : {array-like, sparse matrix or array} of shape (n_samples, n_components)
        Codes, for instance from :func:`ablate` or :func:`steer`.

    X : array-like of shape (n_samples, n_features), default=None
        Rows from which the codes were made, as `estimator` takes them. They give what
        the codes do not hold: the error of the reconstruction, and the norms of the
        rows, if a step has divided by these.

    to : {"input", "dictionary"}, default="input"
        The space of the result: that of the rows that `estimator` takes, through the
        inverse of every step, or that of the rows that the dictionary takes.

    keep_error : bool, default=True
        Whether rows keep what the dictionary does not explain of them, if `X` is given.
        Codes that were not edited then decode to the rows themselves. The rows are
        encoded for it.

    params : dict, default=None
        Metadata with one entry for each row, for the steps that ask for them, such as
        the `batch` of :class:`~skdict.ControlCenterScaler`.

    Returns
    -------
    decoded : ndarray of shape (n_samples, n_features)
        The embeddings.

    Raises
    ------
    ValueError
        If a step has no inverse, if a step has divided rows by their norms and `X` is
        not given, or if the lengths differ.

    See Also
    --------
    ablate : Takes features out of codes.
    steer : Changes features of codes.

    Notes
    -----
    With the codes :math:`z` of a row :math:`x`, edited codes :math:`z'` and the decoder
    :math:`g`, which includes the inverses of the steps before the dictionary, the
    result is

    .. math::

        x + g(z') - g(z)

    if the error is kept, and :math:`g(z')` otherwise. A whitener that has dropped axes
    puts rows on the plane that is left; if the error is kept, they also keep their
    place off that plane.

    If the Pipeline ends in a :class:`~skdict.FeatureSuppressor`, :math:`z` are those
    before it: ``decode(pipeline, pipeline.transform(X), X)`` gives the rows without the
    features that were taken out.

    Dividing rows by their norms cannot be undone from codes. :math:`g` multiplies by
    the norms that the rows of `X` had.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import Normalizer, StandardScaler
    >>> from skdict import ICFL
    >>> from skdict.concepts import ablate, decode
    >>> X, _ = load_digits(return_X_y=True)
    >>> pipe = make_pipeline(
    ...     StandardScaler(), Normalizer(), ICFL(64, 8, max_iter=2, random_state=0)
    ... ).fit(X)
    >>> codes = pipe.transform(X)
    >>> np.allclose(decode(pipe, codes, X), X)
    True
    >>> changed = decode(pipe, ablate(codes, 3), X)
    >>> is_active = codes[:, [3]].toarray().ravel() != 0
    >>> np.array_equal(~np.isclose(changed, X).all(axis=1), is_active)
    True
    """
    check_is_fitted(estimator)
    chain = chain_of(estimator)
    if X is not None and num_samples(X) != num_samples(codes):
        raise ValueError(
            f"X has {num_samples(X)} rows, but codes has {num_samples(codes)}."
        )
    given = params or {}
    with config_context(transform_output="default"):
        norms, rows = rows_before(chain, X, given)
        own = None
        if X is not None and keep_error:
            own = encode(chain.dictionary, rows)
        decoded = back(chain, codes, norms, to, given)
        if own is not None:
            goal = as_numpy(X if to == "input" else rows)
            if goal.shape != decoded.shape:
                raise ValueError(
                    f"X has {goal.shape[1]} columns, but the inverse of the steps "
                    f"gives {decoded.shape[1]}: their error cannot be kept. Pass "
                    "keep_error=False."
                )
            # The difference is 0 to the bit for codes that were not edited.
            decoded = goal + (decoded - back(chain, own, norms, to, given))
    check_finite(decoded, "The decoded rows", f"overflow {decoded.dtype}")
    return decoded


class Chain(NamedTuple):
    """The fitted steps of a pipeline."""

    before: list[Any]
    dictionary: Any


def chain_of(estimator: Any) -> Chain:
    steps = [unfrozen(step) for step in steps_of(plain(estimator))]
    while steps and isinstance(steps[-1], FeatureSuppressor):
        steps.pop()
    if not steps or not hasattr(steps[-1], "inverse_transform"):
        what = type(steps[-1]).__name__ if steps else "nothing but a suppressor"
        raise ValueError(
            f"A dictionary with inverse_transform is needed to decode, but the last "
            f"step is {what}. pipeline[:-1] leaves out a classifier at the end."
        )
    return Chain(steps[:-1], steps[-1])


def rows_before(
    chain: Chain, X: Data | None, params: dict[str, Any]
) -> tuple[list[np.ndarray | None], Any]:
    """Transform rows by the steps before the dictionary.

    Returns
    -------
    norms : list of ndarray of shape (n_samples,) or None
        By what each step divides the rows; None for all other steps, and without rows.
    rows : array of shape (n_samples, n_features) or None
        What the dictionary gets.
    """
    norms: list[np.ndarray | None] = [None] * len(chain.before)
    if X is not None:
        for i, step in enumerate(chain.before):
            norms[i] = _norms(X, norm_of(step))
            X = step.transform(X, **routed(step, "transform", params))
    return norms, X


def back(
    chain: Chain,
    codes: Codes,
    norms: list[np.ndarray | None],
    to: str,
    params: dict[str, Any],
) -> np.ndarray:
    """Decode codes by the dictionary and by the inverses of the steps before it."""
    rows = as_numpy(chain.dictionary.inverse_transform(codes))
    if to == "dictionary":
        return rows
    for step, norm in zip(chain.before[::-1], norms[::-1], strict=True):
        if norm is not None:
            rows = rows * norm.astype(rows.dtype)[:, None]
        elif norm_of(step) is not None:
            raise ValueError(
                "A step has divided the rows by their norms, which the codes do not "
                "hold: pass the rows as X, or to='dictionary'."
            )
        elif not hasattr(step, "inverse_transform"):
            raise ValueError(
                f"{type(step).__name__} has no inverse_transform, so codes cannot be "
                "decoded to the input: pass to='dictionary'."
            )
        else:
            along = routed(step, "inverse_transform", params)
            rows = as_numpy(step.inverse_transform(rows, **along))
    return rows


def norm_of(step: Any) -> str | None:
    """Name the norm by which a step divides every row; None for other steps."""
    if isinstance(step, RowwiseTransformer):
        step = unfrozen(step.estimator_)
    return step.norm if isinstance(step, Normalizer) else None


def _norms(rows: Data, norm: str | None) -> np.ndarray | None:
    if norm is None:
        return None
    order = {"l1": 1, "l2": 2, "max": np.inf}[norm]
    norms = np.linalg.norm(as_numpy(rows), ord=order, axis=1)
    # Rows of zeros are not divided.
    return np.where(norms == 0, 1.0, norms)
