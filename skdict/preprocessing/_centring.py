"""Centring and scaling with the control samples of each batch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from numbers import Integral
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.exceptions import NotFittedError
from sklearn.utils import Tags
from torch import Tensor

from skdict._guards import learns, own_precision
from skdict._utils.arrays import blocks
from skdict._utils.constraints import Interval
from skdict._utils.fitted import (
    Array,
    Count,
    Flag,
    IfThere,
    Labels,
    Names,
    Number,
    OrNone,
    Record,
)
from skdict._utils.labels import as_labels, as_mask, encode
from skdict._utils.sklearn_private import (
    StrOptions,
    check_same_namespace,
    fit_context,
    get_namespace,
    get_namespace_and_device,
    num_samples,
)
from skdict._utils.types import AnyArray, Data
from skdict._utils.warn import warn
from skdict.ops.group_moments import (
    GroupMoments,
    group_moments,
    merge_group_moments,
    spread_within,
)
from skdict.preprocessing._batches import known_positions, split_off_column, union
from skdict.preprocessing._controls import CONTROL_LABEL, control_rows, without_controls
from skdict.preprocessing._rows import (
    Home,
    check_transformed,
    map_blocks,
    place_in,
    storage_eps,
)
from skdict.rows import as_rows, as_tensor, by_blocks, validate_rows

__all__ = ["ControlCenterScaler"]

# Number of entries of the blocks of rows that are read at a time.
_READ_ENTRIES = 2**24

_ROUTING = (
    "scikit-learn passes batch on to transform after "
    "sklearn.set_config(enable_metadata_routing=True), but its scorers other than the "
    "estimator's own score never do. Or let X carry the batch: see batch_column"
)


class ControlCenterScaler(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Centre and scale each batch with the controls of that batch.

    Plates, slides, scanners and days leave their mark on every sample. Controls, to
    which nothing was done, show this mark alone. The difference between the controls of
    the batches is therefore taken off all samples.

    Parameters
    ----------
    with_scaling : bool, default=True
        Whether to divide by the standard deviation of the batch's controls as well.

    min_controls : int, default=10
        A batch with fewer controls than this gets the pooled statistics.

    unseen : {"pooled", "own", "raise"}, default="pooled"
        What `transform` does with a batch that was not in `fit`. "pooled" uses the
        statistics of all controls seen in `fit` and warns, because the batch keeps its
        mark. "own" uses the batch's own controls among the rows that are passed, and
        needs `control` in `transform`. "raise" raises a ValueError.

    control_label : str, bytes, number, bool, date, time span or None, default=None
        If no `control` mask is passed to `fit`, the controls are the rows whose `y`
        equals this label.

    batch_column : str, int or None, default=None
        Column of X that holds the batch: the name of a column of a data frame, or the
        number of a column. It is not a feature and is not returned. None: the batch is
        passed as `batch`.

    Attributes
    ----------
    batches_ : ndarray of shape (n_batches,) or None
        The batches seen in `fit`, sorted; None if no batch was given.

    mean_ : ndarray of shape (n_batches, n_features_in_)
        Mean that is subtracted from the rows of each batch; a single row if no batch
        was given.

    scale_ : ndarray of shape (n_batches, n_features_in_)
        Scale by which the rows of each batch are then divided.

    pooled_mean_ : ndarray of shape (n_features_in_,)
        Mean of all controls.

    pooled_scale_ : ndarray of shape (n_features_in_,)
        Standard deviation of all controls about the means of their batches; 1 for a
        feature that does not vary.

    n_control_samples_ : int
        Number of controls seen.

    n_batch_control_samples_ : ndarray of shape (n_batches,) or None
        Number of controls seen in each batch.

    n_features_in_ : int
        Number of features seen during `fit`, without the column of batches.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if `X` had names and all are strings.

    Warns
    -----
    UserWarning
        If neither `control` nor `control_label` is given: all rows then count as
        controls. If no batch is given in `fit`: all rows are then one batch. If a
        batch has fewer than `min_controls` controls. If rows are transformed with
        pooled statistics because their batch is unseen or not given.

    See Also
    --------
    ControlPCAWhitener : Whitening on the controls of all batches together, which is
        the usual next step.
    sklearn.preprocessing.StandardScaler : The same on all samples, without batches.

    Notes
    -----
    With m_b and s_b the mean and the standard deviation (n_b - 1 in the denominator)
    of the n_b controls of batch b, a row x of this batch becomes

        z = (x - m_b) / s_b        feature by feature.

    This is the standardisation by negative controls that is usual for profiles of
    microscopy screens [1]_.

    **Pooled statistics** are m, the mean of all controls, and s, their standard
    deviation *within* batches, s^2 = sum_b (n_b - 1) s_b^2 / sum_b (n_b - 1). They
    serve for batches that have too few controls or were not seen. The other batches are
    divided by their spread within the batch, so s brings these to the same units.

    **How many controls?** m_b has an error of s_b / sqrt(n_b) in every feature, which
    is the same for all rows of the batch: with few controls the centring itself marks
    the batch. If batches differ by less than that, centring does more harm than good,
    and pooling is right. If they differ by much more, a smaller `min_controls` is
    right. The relative error of s_b is about 1 / sqrt(2 n_b), 22 % for 10 controls.
    Controls that resemble each other, such as the tokens of one image, count for less
    than their number.

    **Constant features.** If a feature does not vary on the controls of a batch, beyond
    the rounding of the dtype in which it is passed, it is divided by s, or by 1 if it
    does not vary in any batch.

    **What it cannot do.** Only the mean and the variance of each feature are matched on
    the controls. Covariances are not, and a batch that responds to a treatment in
    another way still does. If the controls of a batch differ from those of the others
    by nature, for instance in cell type, that difference is taken off all its samples.

    **Streaming.** `partial_fit` accumulates moments in float64; any split into calls
    gives the result of one `fit`, up to rounding. A new batch is added to the others,
    so `partial_fit` also makes a fitted scaler know a new batch before `transform`.

    **Pipelines.** `control` and `batch` are requested by default, in `fit`,
    `transform` (`control` for ``unseen="own"``) and `inverse_transform`. After
    ``set_config(enable_metadata_routing=True)`` a pipeline takes them in all its
    methods: ``pipe.fit(X, y, control=control, batch=batch)``,
    ``pipe.predict(X, batch=batch)``, and in :func:`~sklearn.model_selection.\
cross_validate` as ``params={"control": control, "batch": batch}``. Two gaps of
    scikit-learn remain. Without routing, a pipeline passes
    ``controlcenterscaler__batch`` to `fit` but nothing to `transform`: training rows
    are centred by batch, and test rows are not. Even with routing, a scorer such as
    ``scoring="balanced_accuracy"`` calls ``predict(X)`` without metadata (and
    ``GridSearchCV.predict`` takes none: use its `best_estimator_`). Both end in the
    pooled statistics, with a warning, or in an error with ``unseen="raise"``.
    `batch_column` has neither gap, because X then carries the batch along.

    Fitted attributes are float64, the output follows the dtype of the input. Array API
    input is supported under ``set_config(array_api_dispatch=True)``.

    References
    ----------
    .. [1] Caicedo, J. C. et al. (2017). Data-analysis strategies for image-based cell
       profiling. Nature Methods, 14(9), 849-863.

    Examples
    --------
    >>> import numpy as np
    >>> from skdict import ControlCenterScaler
    >>> rng = np.random.default_rng(0)
    >>> batch = np.repeat(["plate 1", "plate 2"], 100)
    >>> control = np.arange(200) % 2 == 0
    >>> X = rng.normal(size=(200, 3))
    >>> X[batch == "plate 2"] += 5
    >>> scaler = ControlCenterScaler().fit(X, control=control, batch=batch)
    >>> Z = scaler.transform(X, batch=batch)
    >>> bool(np.abs(Z[batch == "plate 2"].mean(axis=0)).max() < 0.5)
    True

    In a data frame the batch can stay beside the features:

    >>> import pandas as pd
    >>> frame = pd.DataFrame(X, columns=["a", "b", "c"]).assign(plate=batch)
    >>> scaler = ControlCenterScaler(batch_column="plate")
    >>> scaler.fit_transform(frame, control=control).shape
    (200, 3)
    """

    # None without batches.
    batches_: Any
    n_batch_control_samples_: Any

    __metadata_request__fit = {"control": True, "batch": True}
    __metadata_request__partial_fit = {"control": True, "batch": True}
    __metadata_request__transform = {"control": True, "batch": True}
    __metadata_request__inverse_transform = {"batch": True}

    _parameter_constraints: dict = {
        "with_scaling": ["boolean"],
        "min_controls": [Interval(Integral, 1, None, closed="left")],
        "unseen": [StrOptions({"pooled", "own", "raise"})],
        "control_label": CONTROL_LABEL,
        "batch_column": [str, Interval(Integral, None, None, closed="neither"), None],
    }

    _fitted = (
        {
            "n_features_in_": Count("n_features", low=1),
            "feature_names_in_": IfThere(Names("n_features")),
            "n_control_samples_": Count(),
            "batches_": OrNone(Labels("n_batches")),
            "n_batch_control_samples_": OrNone(Array(("n_batches",), kind="i", low=0)),
            "_moments": Record(
                {
                    "names": OrNone(Labels("n_batches")),
                    "n_samples": Array(("n_batches",), low=0),
                    "mean": Array(("n_batches", "n_features")),
                    "spread": Array(("n_batches", "n_features"), low=0),
                    "eps": Number(low=0),
                }
            ),
            "_streamed": Flag(),
        },
        {
            "pooled_mean_": Array(("n_features",)),
            "pooled_scale_": Array(("n_features",), above=0),
            "mean_": Array(("n_batches", "n_features")),
            "scale_": Array(("n_batches", "n_features"), above=0),
        },
    )

    def __init__(
        self,
        *,
        with_scaling: bool = True,
        min_controls: int = 10,
        unseen: Literal["pooled", "own", "raise"] = "pooled",
        control_label: Any = None,
        batch_column: str | int | None = None,
    ) -> None:
        self.with_scaling = with_scaling
        self.min_controls = min_controls
        self.unseen = unseen
        self.control_label = control_label
        self.batch_column = batch_column

    @fit_context(prefer_skip_nested_validation=True)
    @learns
    def fit(
        self,
        X: Data,
        y: Data | None = None,
        *,
        control: Data | None = None,
        batch: Data | None = None,
    ) -> Self:
        """Learn the statistics of the controls of each batch.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The samples, controls and others.

        y : array-like of shape (n_samples,), default=None
            Labels; used only with `control_label`, where no mask is passed.

        control : array-like of bool or 0/1 of shape (n_samples,), default=None
            Which rows are controls. It has precedence over `control_label`.

        batch : array-like of str or number of shape (n_samples,), default=None
            The batch of each row. None: all rows are one batch, unless X has a
            `batch_column`.

        Returns
        -------
        self : ControlCenterScaler
            The fitted estimator.

        Raises
        ------
        ValueError
            If there is no control row, if `control` is not a mask over the rows, if
            `batch` is not a label for each row or some are missing, if X is not
            finite, or if its sums overflow.
        """
        names, moments, eps, home = self._read(X, y, control, batch, reset=True)
        if not moments.n_samples.any():
            raise without_controls(self, num_samples(X), y, control)
        self._remember(names, moments, eps, home, streamed=False)
        if names is not None:
            self._warn_of_few_controls(names, self.n_batch_control_samples_)
        return self

    @fit_context(prefer_skip_nested_validation=True)
    @learns
    def partial_fit(
        self,
        X: Data,
        y: Data | None = None,
        *,
        control: Data | None = None,
        batch: Data | None = None,
    ) -> Self:
        """Add the control rows to those seen before.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Some of the samples, of one batch or several. They need not include a
            control, but `transform` raises until one has been seen.

        y : array-like of shape (n_samples,), default=None
            Labels; used only with `control_label`, where no mask is passed.

        control : array-like of bool or 0/1 of shape (n_samples,), default=None
            Which rows are controls. It has precedence over `control_label`.

        batch : array-like of str or number of shape (n_samples,), default=None
            The batch of each row, given in all calls or in none.

        Returns
        -------
        self : ControlCenterScaler
            The estimator.

        Raises
        ------
        ValueError
            As in `fit`, except for a lack of controls; and if some calls have batches
            and others do not.
        """
        first = not hasattr(self, "_moments")
        names, moments, eps, home = self._read(X, y, control, batch, reset=first)
        if not first:
            seen_names, seen, seen_eps = self._recall()
            if (names is None) != (seen_names is None):
                raise ValueError(
                    "Pass batches in every call of partial_fit or in none: the calls "
                    f"before were {'without' if seen_names is None else 'with'}."
                )
            names, moments = _merge(seen_names, seen, names, moments)
            eps = max(eps, seen_eps)
        self._remember(names, moments, eps, home, streamed=True)
        return self

    @own_precision
    def fit_transform(
        self,
        X: Data,
        y: Data | None = None,
        *,
        control: Data | None = None,
        batch: Data | None = None,
    ) -> AnyArray:
        """Fit to the controls of X and transform X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The samples, controls and others.

        y : array-like of shape (n_samples,), default=None
            Labels; used only with `control_label`, where no mask is passed.

        control : array-like of bool or 0/1 of shape (n_samples,), default=None
            Which rows are controls. It has precedence over `control_label`.

        batch : array-like of str or number of shape (n_samples,), default=None
            The batch of each row.

        Returns
        -------
        X_new : ndarray of shape (n_samples, n_features_in_)
            The centred and scaled samples.
        """
        # The method of TransformerMixin would not pass the batch on to transform.
        fitted = self.fit(X, y, control=control, batch=batch)
        return fitted.transform(X, batch=batch)

    @by_blocks
    @own_precision
    def transform(
        self, X: Data, *, control: Data | None = None, batch: Data | None = None
    ) -> AnyArray:
        """Centre and scale X, each row with the statistics of its batch.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The samples, controls or not.

        control : array-like of bool or 0/1 of shape (n_samples,), default=None
            Which rows are controls; used only with ``unseen="own"``, for batches that
            were not in `fit`.

        batch : array-like of str or number of shape (n_samples,), default=None
            The batch of each row. If it is None, `fit` had batches and there is no
            `batch_column`, all rows are treated as `unseen` says.

        Returns
        -------
        X_new : ndarray of shape (n_samples, n_features_in_)
            The centred and scaled samples, in the dtype of X.

        Raises
        ------
        ValueError
            If X is not finite, has a different number of features than in `fit`, or
            overflows; if `batch` is not a label for each row; and for unseen batches,
            if `unseen` says so.
        """
        self._check_statistics()
        eps = storage_eps(X)
        X, batch = split_off_column(X, batch, self.batch_column)
        check_same_namespace(X, self, attribute="pooled_mean_", method="transform")
        X = validate_rows(self, X, reset=False)
        if self._streamed and self.batches_ is not None:
            self._warn_of_few_controls(self.batches_, self.n_batch_control_samples_)
        table = self._table(X, control, batch, eps)
        return self._map(
            lambda rows, mean, scale: (rows - mean) / scale,
            X,
            table,
            what="Centring and scaling",
        )

    @by_blocks
    @own_precision
    def inverse_transform(self, X: Data, *, batch: Data | None = None) -> AnyArray:
        """Undo the centring and scaling.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features_in_)
            Centred and scaled samples, without a column of batches.

        batch : array-like of str or number of shape (n_samples,), default=None
            The batch of each row. Unseen ones get the pooled statistics or raise, as
            `unseen` says; with "own" they raise, because their statistics were not
            kept.

        Returns
        -------
        X_original : ndarray of shape (n_samples, n_features_in_)
            The samples that `transform` would turn into X.

        Raises
        ------
        ValueError
            If X is not finite, overflows or has a different number of columns than
            `transform` returns, and for unseen batches.
        """
        self._check_statistics()
        X = check_transformed(
            self, X, attribute="pooled_mean_", n_columns=self.n_features_in_
        )
        return self._map(
            lambda rows, mean, scale: rows * scale + mean,
            X,
            self._table(X, None, batch, 0.0),
            what="Undoing the centring and scaling",
        )

    def _read(
        self,
        X: Data,
        y: Data | None,
        control: Data | None,
        batch: Data | None,
        *,
        reset: bool,
    ) -> tuple[np.ndarray | None, GroupMoments, float, Home]:
        """Return batches, moments of their controls, resolution, and the home of X."""
        eps = storage_eps(X)
        X, batch = split_off_column(X, batch, self.batch_column)
        X = validate_rows(self, X, reset=reset)
        xp, _, device = get_namespace_and_device(X)
        n_samples = X.shape[0]
        rows = control_rows(self, n_samples, y, control)
        if batch is None:
            warn(
                "No batch is given: all rows are taken for one batch. Pass "
                "batch=labels to fit, or name the batch_column of X.",
            )
            names, codes = None, np.zeros(n_samples, dtype=np.int64)
        else:
            names, codes = encode(batch, "batch", n_samples)
        n_batches = 1 if names is None else len(names)
        codes = codes if rows is None else codes[rows]
        moments = _moments_of(X, rows, codes, n_batches=n_batches)
        return names, moments, max(eps, float(xp.finfo(X.dtype).eps)), (xp, device)

    def _remember(
        self,
        names: np.ndarray | None,
        moments: GroupMoments,
        eps: float,
        home: Home,
        *,
        streamed: bool,
    ) -> None:
        """Set the state, and the attributes that follow from it."""
        # In NumPy for any namespace of X, so that the state pickles and merges with
        # rows of other namespaces.
        self._moments: dict[str, Any] = {
            "names": names,
            "n_samples": moments.n_samples.numpy(),
            "mean": moments.mean.numpy(),
            "spread": moments.spread.numpy(),
            "eps": eps,
        }
        self._streamed = streamed
        for name in ("pooled_mean_", "pooled_scale_", "mean_", "scale_"):
            if hasattr(self, name):
                delattr(self, name)
        counts = self._moments["n_samples"].astype(np.int64)
        self.n_control_samples_ = int(counts.sum())
        self.batches_ = names
        self.n_batch_control_samples_ = None if names is None else counts
        if self.n_control_samples_ == 0:
            return
        pooled = _pooled_statistics(moments, eps)
        # Without batches the pooled statistics are those of the one batch.
        least = 1 if names is None else self.min_controls
        statistics = _batch_statistics(moments, pooled, least, eps)
        place = partial(place_in, home=home)
        self.pooled_mean_ = place(pooled.mean)
        self.pooled_scale_ = place(self._scale(pooled))
        self.mean_ = place(statistics.mean)
        self.scale_ = place(self._scale(statistics))

    def _recall(self) -> tuple[np.ndarray | None, GroupMoments, float]:
        state = self._moments
        tensors = (
            torch.from_numpy(np.require(state[key], requirements="W"))
            for key in ("n_samples", "mean", "spread")
        )
        return state["names"], GroupMoments(*tensors), state["eps"]

    def _scale(self, statistics: _Statistics) -> Tensor:
        """Make positive divisors of standard deviations, some of which are 0."""
        deviation = statistics.deviation
        if not self.with_scaling:
            return torch.ones_like(deviation)
        return torch.where(deviation > 0, deviation, 1.0)

    def _table(
        self, X: AnyArray, control: Data | None, batch: Data | None, eps: float
    ) -> tuple[AnyArray, AnyArray, AnyArray]:
        """Return means, scales, and the line of them that belongs to each row of X."""
        xp, _, device = get_namespace_and_device(X)
        known = np.empty(0) if self.batches_ is None else self.batches_
        n_samples, pooled = X.shape[0], self.mean_.shape[0]
        means = [self.mean_, self.pooled_mean_[None, :]]
        scales = [self.scale_, self.pooled_scale_[None, :]]
        if batch is None:
            lines = np.full(n_samples, pooled)
            if len(known):
                self._refuse_or_warn(f"No batch is given, but fit saw {len(known)}")
        else:
            labels = as_labels(batch, "batch", n_samples)
            lines = known_positions(labels, known)
            rows = np.flatnonzero(lines == len(known))
            lines[rows] = pooled
            names, codes = np.unique(labels[rows], return_inverse=True)
            if len(rows) and self.unseen == "own" and control is not None:
                is_control = as_mask(control, "control", n_samples)[rows]
                own = self._own_statistics(X, rows, is_control, names, codes, eps)
                means.append(place_in(own.mean, home=(xp, device)))
                scales.append(place_in(self._scale(own), home=(xp, device)))
                lines[rows] += 1 + codes
            elif len(rows):
                self._refuse_or_warn(
                    f"{len(rows)} of {n_samples} rows are of batches that fit did not "
                    f"see, {len(names)} in number (the first is "
                    f"{labels[rows[:1]].tolist()[0]!r} in row {rows[0]})"
                )
        kwargs = {} if device is None else {"device": device}
        return xp.concat(means), xp.concat(scales), xp.asarray(lines, **kwargs)

    def _own_statistics(
        self,
        X: AnyArray,
        rows: np.ndarray,
        is_control: np.ndarray,
        names: np.ndarray,
        codes: np.ndarray,
        eps: float,
    ) -> _Statistics:
        """Compute the statistics of unseen batches from their own controls."""
        controls = np.flatnonzero(is_control)
        moments = _moments_of(X, rows[controls], codes[controls], n_batches=len(names))
        counts = moments.n_samples.numpy().astype(np.int64)
        self._warn_of_few_controls(names, counts)
        _, seen, seen_eps = self._recall()
        pooled = _pooled_statistics(seen, seen_eps)
        eps = max(eps, float(get_namespace(X)[0].finfo(X.dtype).eps))
        return _batch_statistics(moments, pooled, self.min_controls, eps)

    def _refuse_or_warn(self, problem: str) -> None:
        """Raise or warn because rows have no batch with known statistics."""
        if self.unseen == "own":
            raise ValueError(
                f"{problem}. unseen='own' needs batch and control in transform, to "
                f"learn from the controls of a new batch. {_ROUTING}"
            )
        if self.unseen == "raise":
            raise ValueError(f"{problem}, and unseen='raise'. {_ROUTING}")
        warn(
            f"{problem}: the pooled statistics are used, which leave the mark of the "
            f"batch. {_ROUTING}",
        )

    def _warn_of_few_controls(self, names: np.ndarray, counts: np.ndarray) -> None:
        few = np.flatnonzero(counts < self.min_controls)
        if len(few):
            first = few[0]
            warn(
                f"{len(few)} of {len(names)} batches have fewer than "
                f"min_controls={self.min_controls} controls (the first is "
                f"{names[first:][:1].tolist()[0]!r} with {counts[first]}): the pooled "
                "statistics are used, which leave the mark of the batch.",
            )

    def _map(
        self,
        function: Callable[[AnyArray, AnyArray, AnyArray], AnyArray],
        X: AnyArray,
        table: tuple[AnyArray, AnyArray, AnyArray],
        *,
        what: str,
    ) -> AnyArray:
        """Apply a function of rows, means and scales."""
        means, scales, lines = table
        xp, _ = get_namespace(X)
        return map_blocks(
            lambda rows, line: function(
                rows, xp.take(means, line, axis=0), xp.take(scales, line, axis=0)
            ),
            X,
            lines,
            n_out=X.shape[1],
            dtype=means.dtype,
            what=what,
        )

    def _check_statistics(self) -> None:
        if hasattr(self, "pooled_mean_"):
            return
        if not hasattr(self, "_moments"):
            raise NotFittedError(
                f"This {type(self).__name__} instance is not fitted yet. Call 'fit' "
                "with appropriate arguments before using this estimator."
            )
        raise ValueError(
            "No control row in any of the calls of partial_fit so far: there is "
            "nothing to centre by."
        )

    def _inconsistency(self) -> str | None:
        """Say what is wrong with an estimator from a file, beyond its table's rules."""
        if not hasattr(self, "_moments"):
            return None
        names = self._moments["names"]
        if (names is None) != (self.batches_ is None):
            return "batches_ and the names of the moments come together"
        if (names is None) != (self.n_batch_control_samples_ is None):
            return "batches_ and n_batch_control_samples_ come together"
        if names is None and len(self._moments["mean"]) != 1:
            return "without batches there is one mean"
        if names is not None and not np.array_equal(names, self.batches_):
            return "batches_ are not those of the moments"
        return None

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "pooled_mean_")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.array_api_support = True
        return tags


class _Statistics(NamedTuple):
    """What to centre by and what to scale by; a deviation is 0 if nothing varies."""

    mean: Tensor
    deviation: Tensor


def _pooled_statistics(moments: GroupMoments, eps: float) -> _Statistics:
    """Mean of all controls, and their deviation from the means of their batches."""
    n = moments.n_samples
    weights = (n / n.sum())[:, None]
    # Relative to one of the means, so that a constant feature stays so to the bit.
    origin = moments.mean[n.argmax()]
    mean = origin + (weights * (moments.mean - origin)).sum(dim=0)
    return _Statistics(mean, _above_rounding(spread_within(moments), mean, eps))


def _batch_statistics(
    moments: GroupMoments, pooled: _Statistics, min_controls: int, eps: float
) -> _Statistics:
    """Mean and deviation of each batch; pooled where its controls do not suffice."""
    n = moments.n_samples[:, None]
    enough = n >= min_controls
    deviation = moments.spread / (n - 1.0).clamp(min=1.0).sqrt()
    deviation = _above_rounding(deviation, moments.mean, eps)
    return _Statistics(
        torch.where(enough, moments.mean, pooled.mean),
        torch.where(enough & (deviation > 0), deviation, pooled.deviation),
    )


def _above_rounding(deviation: Tensor, mean: Tensor, eps: float) -> Tensor:
    """Set deviations to 0 that rounding in the dtype of the input can explain."""
    rounding = 0.5 * eps * torch.hypot(mean, deviation)
    return torch.where(deviation > rounding, deviation, 0.0)


def _moments_of(
    X: AnyArray, rows: np.ndarray | None, codes: np.ndarray, *, n_batches: int
) -> GroupMoments:
    """Moments by batch of the given rows, which are read in blocks.

    `codes` are the numbers of their batches.
    """
    X = as_rows(X)
    if rows is not None and len(rows) == X.shape[0]:
        rows = None  # slices instead of a gather
    n_rows = X.shape[0] if rows is None else len(rows)
    groups = torch.from_numpy(codes)
    total = group_moments(as_tensor(X[:0]), groups[:0], n_batches)
    with np.errstate(over="ignore", invalid="ignore"):  # see _check_overflow
        for part in blocks(n_rows, X.shape[1], _READ_ENTRIES):
            block = X[part] if rows is None else X[rows[part]]
            moments = group_moments(as_tensor(block), groups[part], n_batches)
            total = merge_group_moments(total, moments)
    total = GroupMoments(total.n_samples.cpu(), total.mean.cpu(), total.spread.cpu())
    _check_overflow(total)
    return total


def _check_overflow(moments: GroupMoments) -> None:
    """Raise ValueError if sums of finite rows, or distances, overflowed."""
    bad = ~torch.isfinite(moments.spread + moments.mean.abs()).all(dim=0)
    if bad.any():
        raise ValueError(
            "The control rows are too large: their sums overflow float64 in "
            f"{int(bad.sum())} of {len(bad)} features (the first is feature "
            f"{int(bad.int().argmax())}). Scale X down."
        )


def _merge(
    names: np.ndarray | None,
    moments: GroupMoments,
    new_names: np.ndarray | None,
    new_moments: GroupMoments,
) -> tuple[np.ndarray | None, GroupMoments]:
    """Merge the batches and moments of two calls, both with batches or both without."""
    if names is None or new_names is None:
        return None, merge_group_moments(moments, new_moments)
    together, old_lines, new_lines = union(names, new_names)

    def spread(part: GroupMoments, lines: np.ndarray) -> GroupMoments:
        def place(tensor: Tensor) -> Tensor:
            out = tensor.new_zeros((len(together), *tensor.shape[1:]))
            out[torch.from_numpy(lines)] = tensor
            return out

        return GroupMoments(place(part.n_samples), place(part.mean), place(part.spread))

    return together, merge_group_moments(
        spread(moments, old_lines), spread(new_moments, new_lines)
    )
