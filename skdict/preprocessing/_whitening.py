"""Whitening with the mean and covariance of the control samples."""

from __future__ import annotations

from functools import partial, reduce
from numbers import Integral, Real
from typing import Any, Literal, Self

import numpy as np
import torch
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.exceptions import NotFittedError
from sklearn.utils import Tags
from torch import Tensor

from skdict._guards import full_precision, learns, own_precision
from skdict._ranks import Ranks, fails_together, ranks
from skdict._utils.arrays import blocks
from skdict._utils.checks import as_numpy
from skdict._utils.constraints import Interval
from skdict._utils.dask_blocks import is_dask, reduce_blocks
from skdict._utils.fitted import (
    Array,
    Count,
    Flag,
    IfThere,
    Names,
    Number,
    OrNone,
    Record,
    Text,
)
from skdict._utils.sklearn_private import (
    RealNotInt,
    StrOptions,
    check_same_namespace,
    fit_context,
    get_namespace,
    get_namespace_and_device,
    num_samples,
)
from skdict._utils.types import AnyArray, Data
from skdict._utils.warn import warn
from skdict.ops.few_rows import (
    FewRows,
    complement,
    intensity_of_rows,
    leading_shrunk_axes,
    merge_rows,
    principal_axes_of_rows,
)
from skdict.ops.moments import (
    Moments,
    batch_moments,
    covariance,
    ledoit_wolf_intensity,
    merge_moments,
    moments_about,
    principal_axes,
    rounding_variance,
    shrink_off_diagonal,
    supported_axes,
    whitening_matrix,
)
from skdict.preprocessing._controls import (
    CONTROL_LABEL,
    FOLD_REMEDY,
    control_rows,
    without_controls,
)
from skdict.preprocessing._rows import (
    Home,
    check_transformed,
    map_blocks,
    place_in,
    storage_eps,
)
from skdict.rows import (
    StoredRows,
    as_rows,
    as_tensor,
    by_blocks,
    check_part,
    validate_rows,
)

__all__ = ["ControlPCAWhitener"]

# Number of entries of the blocks of rows that are read at a time.
_READ_ENTRIES = 2**24
# Smaller sums of squares may have lost digits to subnormal numbers.
_LEAST_SQUARE = 1e-280

# Rows are few up to this fraction of the number of features. With more rows, their
# singular value decomposition takes longer than the eigenvectors of the covariance.
_FEW = 0.5

# Beyond this ratio of the largest to the smallest standard deviation, a product in
# float32 moves the covariance of the output by more than about 1e-5.
_FLOAT32_CONDITION = 1000.0


class _TooFewControlsError(ValueError):
    """The controls do not determine the whitening, or not yet."""


class ControlPCAWhitener(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator
):
    """Centre on the control mean and whiten with the control covariance.

    On the control samples the output has zero mean and unit covariance. The output of
    other samples is thus their distance from the controls, in units of the controls'
    own spread in each direction.

    Parameters
    ----------
    n_components : int, float or None, default=None
        Number of principal axes of the controls to keep. None keeps as many as the
        numerical rank of their covariance. An int keeps that many. A float in (0, 1)
        keeps the fewest that together hold more than that fraction of the control
        variance. Axes beyond the numerical rank are never kept.

    method : {"pca", "zca"}, default="pca"
        "pca" returns the coordinates along the principal axes, `n_components_` of
        them. "zca" rotates them back, which gives the white features closest to the
        centred input, `n_features_in_` of them.

    shrinkage : {"auto"}, float or None, default=None
        None whitens the control covariance as it is. A float s in [0, 1] replaces the
        covariance C by (1 - s) C + s tr(C) / n_features I. "auto" shrinks the
        correlations with the intensity of Ledoit and Wolf and keeps the variances, as
        :class:`~sklearn.discriminant_analysis.LinearDiscriminantAnalysis` does.
        Features that are constant on the controls have no scale and do not count.

    control_label : str, bytes, number, bool, date, time span or None, default=None
        If no `control` mask is passed to `fit`, the controls are the rows whose `y`
        equals this label.

    Attributes
    ----------
    mean_ : ndarray of shape (n_features_in_,)
        Mean of the controls.

    components_ : ndarray of shape (n_components_, n_features_in_)
        Principal axes as unit rows, in order of falling variance.

    explained_variance_ : ndarray of shape (n_components_,)
        Variance of the controls along each axis (after shrinkage, if any).

    n_components_ : int
        Number of axes kept.

    rank_ : int
        Numerical rank of the covariance (after shrinkage, if any): the largest
        possible `n_components_`.

    n_control_samples_ : int
        Number of controls seen.

    n_features_in_ : int
        Number of features seen during `fit`.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if `X` had names and all are strings.

    Warns
    -----
    UserWarning
        If neither `control` nor `control_label` is given: all rows then count as
        controls. If there are, without shrinkage, fewer than 2 controls per feature
        and at most 2 per axis kept.

    See Also
    --------
    sklearn.decomposition.PCA : With ``whiten=True``, the same on all samples, without
        streaming, shrinkage or a guard against too few samples.
    sklearn.covariance.LedoitWolf : The shrunk covariance by itself.

    Notes
    -----
    With the mean m, the covariance C = V^T L V (`components_` V, `explained_variance_`
    L; n - 1 in the denominator), a row x becomes

        z = L^(-1/2) V (x - m)              (method="pca")
        z = V^T L^(-1/2) V (x - m)          (method="zca")

    as Kessy, Lewin and Strimmer [1]_ describe; whitening on controls as preprocessing
    for dictionary learning on microscopy embeddings is from [2]_.

    **Too few controls.** n controls span at most n - 1 axes. The closer n is to the
    number of features, the more the sample covariance understates the variance along
    the last of these axes, and other rows get large values along them.
    ``shrinkage="auto"`` or a smaller `n_components` avoids that.

    **Numerical rank.** An axis counts if its variance exceeds what rounding of the
    input explains (in the dtype in which it is passed, float16 included) and the
    rounding of the eigenvalue solver, relative to the largest variance. Features whose
    scales differ by more than about seven orders of magnitude should be brought to one
    scale first.

    **Streaming.** `partial_fit` accumulates moments in float64; any split into batches
    gives the result of one `fit`, up to rounding. A batch may have no controls. Each
    call ends with an eigenvalue problem of n_features^3 operations, so pass batches of
    many rows. With ``shrinkage="auto"`` the fourth moments take two more matrix
    products for each batch.

    **Many features.** If there are at most half as many controls as features, the
    fitted estimator keeps the n controls themselves, and the axes in their span take
    only n^2 n_features operations. A float `shrinkage` gives all other directions one
    variance; if `n_components` is None or more than n, any orthogonal axes stand for
    them. ``shrinkage="auto"`` keeps the variance of each feature, so all axes take
    n_features^3 operations; but if `n_components` asks for at most n - 1 axes, these
    are found alone, as fast as without shrinkage.

    **Cross-validation.** `control` is requested by default through metadata routing:
    with ``set_config(enable_metadata_routing=True)``, ``params={"control": mask}``
    reaches this step, cut to each fold. :func:`sklearn.model_selection.\
permutation_test_score` permutes `y`, and with it the controls that `control_label`
    picks; pass `control` there.

    Fitted attributes are float64; the output has the dtype of the input. If the axes
    differ much in variance, float32 rows are whitened by a float64 product.
    Array API input is supported under ``set_config(array_api_dispatch=True)``: the
    fitted attributes and outputs then live in the namespace and on the device of `X`.

    References
    ----------
    .. [1] Kessy, A., Lewin, A. and Strimmer, K. (2018). Optimal whitening and
       decorrelation. The American Statistician, 72(4), 309-314.

    .. [2] Donhauser, K. et al. (2025). Towards scientific discovery with dictionary
       learning: extracting biological concepts from microscopy foundation models.
       arXiv:2412.16247.

    Examples
    --------
    >>> import numpy as np
    >>> from skdict import ControlPCAWhitener
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 3)) * [1.0, 5.0, 0.2] + 10.0
    >>> control = np.arange(200) < 150
    >>> whitener = ControlPCAWhitener().fit(X, control=control)
    >>> Z = whitener.transform(X)
    >>> np.allclose(np.cov(Z[control].T), np.eye(3))
    True
    >>> whitener.rank_
    3
    """

    __metadata_request__fit = {"control": True}
    __metadata_request__partial_fit = {"control": True}

    _parameter_constraints: dict = {
        "n_components": [
            Interval(Integral, 1, None, closed="left"),
            Interval(RealNotInt, 0, 1, closed="neither"),
            None,
        ],
        "method": [StrOptions({"pca", "zca"})],
        "shrinkage": [
            StrOptions({"auto"}),
            Interval(Real, 0, 1, closed="both"),
            None,
        ],
        "control_label": CONTROL_LABEL,
    }

    _fitted = (
        {
            "n_features_in_": Count("n_features", low=1),
            "feature_names_in_": IfThere(Names("n_features")),
            "n_control_samples_": Count(),
            "_moments": Record(
                {
                    "n_samples": Count(),
                    "eps": Number(low=0),
                    "rows": OrNone(Array(("n_rows", "n_features"))),
                    "mean": OrNone(Array(("n_features",))),
                    "scatter": OrNone(Array(("n_features", "n_features"))),
                    "third": OrNone(Array(("n_features", "n_features"))),
                    "fourth": OrNone(Array(("n_features", "n_features"))),
                }
            ),
            "_streamed": Flag(),
            "_missing": OrNone(Text()),
        },
        {
            "n_components_": Count("n_axes", low=1),
            "rank_": Count(low=1),
            "mean_": Array(("n_features",)),
            "components_": Array(("n_axes", "n_features")),
            "explained_variance_": Array(("n_axes",), above=0),
            "_whitening": Array(("n_features", "n_columns")),
            "_zca": Flag(),
            "_float32_suffices": Flag(),
        },
    )

    def __init__(
        self,
        n_components: int | float | None = None,
        *,
        method: Literal["pca", "zca"] = "pca",
        shrinkage: float | Literal["auto"] | None = None,
        control_label: Any = None,
    ) -> None:
        self.n_components = n_components
        self.method = method
        self.shrinkage = shrinkage
        self.control_label = control_label

    @fit_context(prefer_skip_nested_validation=True)
    @learns
    def fit(
        self, X: Data, y: Data | None = None, *, control: Data | None = None
    ) -> Self:
        """Learn mean and whitening from the control rows of X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The samples, controls and others.

        y : array-like of shape (n_samples,), default=None
            Labels; used only with `control_label`, where no mask is passed.

        control : array-like of bool or 0/1 of shape (n_samples,), default=None
            Which rows are controls. It has precedence over `control_label`.

        Returns
        -------
        self : ControlPCAWhitener
            The fitted estimator.

        Raises
        ------
        ValueError
            If there is no control row, if the controls do not vary or are too few for
            `n_components`, if `control` is not a mask over the rows, if X is not
            finite, or if its squares overflow or underflow.
        """
        moments, eps, home = self._read(X, y, control, reset=True)
        if moments.n_samples == 0:
            raise without_controls(self, num_samples(X), y, control)
        found = self._axes(moments, eps)
        self._remember(moments, eps, streamed=False)
        self._whiten(moments, found, home)
        self._warn_of_few_controls()
        return self

    @fit_context(prefer_skip_nested_validation=True)
    @learns
    def partial_fit(
        self, X: Data, y: Data | None = None, *, control: Data | None = None
    ) -> Self:
        """Add the control rows of one batch to those seen before.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The samples of the batch. It need not include a control, but `transform`
            raises until two have been seen. The number of outputs grows with the number
            of controls: stream all controls before fitting a later step.

        y : array-like of shape (n_samples,), default=None
            Labels; used only with `control_label`, where no mask is passed.

        control : array-like of bool or 0/1 of shape (n_samples,), default=None
            Which rows are controls. It has precedence over `control_label`.

        Returns
        -------
        self : ControlPCAWhitener
            The estimator.

        Raises
        ------
        ValueError
            If `control` is not a mask over the rows, if X is not finite or has another
            number of features than before, or if its squares overflow.
        """
        first = not hasattr(self, "_moments")
        moments, eps, home = self._read(X, y, control, reset=first)
        if not first:
            seen, seen_eps = self._recall()
            moments = self._merge(seen, moments)
            eps = max(seen_eps, eps)
        self._remember(moments, eps, streamed=True)
        try:
            found = self._axes(moments, eps)
        except _TooFewControlsError as error:
            # Later batches may bring what is missing. Until then transform raises this.
            self._missing: str | None = str(error)
        else:
            self._whiten(moments, found, home)
        return self

    @by_blocks
    @own_precision
    def transform(self, X: Data) -> AnyArray:
        """Whiten X.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The samples, controls or not.

        Returns
        -------
        X_new : ndarray of shape (n_samples, n_features_out)
            The whitened samples, in the dtype of X: `n_components_` columns for
            ``method="pca"``, `n_features_in_` for "zca".

        Raises
        ------
        ValueError
            If X is not finite, has a different number of features than in `fit`, or
            overflows; or if the controls seen by `partial_fit` so far do not determine
            the whitening.
        """
        self._check_whitening()
        check_same_namespace(X, self, attribute="components_", method="transform")
        X = validate_rows(self, X, reset=False)
        if self._streamed:
            self._warn_of_few_controls()
        dtype = self._working_dtype(X)
        xp, _ = get_namespace(X)
        matrix = xp.astype(self._whitening, dtype)
        mean = xp.astype(self.mean_, dtype)
        # The mean is subtracted first: as part of an offset, a large mean would cancel
        # digits. What its rounding to float32 left out is subtracted afterwards.
        left_out = self.mean_ - xp.astype(mean, self.mean_.dtype)
        offset = xp.astype(left_out @ self._whitening, dtype)

        def whiten(rows: AnyArray) -> AnyArray:
            product = (rows - mean) @ matrix
            product -= offset
            return product

        return map_blocks(
            whiten,
            X,
            n_out=matrix.shape[1],
            dtype=dtype,
            what="Whitening",
        )

    @by_blocks
    @own_precision
    def inverse_transform(self, X: Data) -> AnyArray:
        """Map whitened samples back to the space of the input.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features_out)
            Whitened samples.

        Returns
        -------
        X_original : ndarray of shape (n_samples, n_features_in_)
            The samples whose whitening is X. If `n_components_` equals
            `n_features_in_`, this inverts `transform`. Otherwise the samples come back
            projected orthogonally on the affine space that the kept axes span through
            `mean_`.

        Raises
        ------
        ValueError
            If X is not finite, or has a different number of columns than `transform`
            returns.
        """
        self._check_whitening()
        X = check_transformed(
            self, X, attribute="components_", n_columns=self._n_features_out
        )
        xp, _ = get_namespace(X)
        dtype = self._working_dtype(X)
        back = xp.sqrt(self.explained_variance_)[:, None] * self.components_
        if self._zca:
            back = self.components_.T @ back
        back, mean = xp.astype(back, dtype), xp.astype(self.mean_, dtype)
        return map_blocks(
            lambda rows: rows @ back + mean,
            X,
            n_out=self.n_features_in_,
            dtype=dtype,
            what="Undoing the whitening",
        )

    def _read(
        self, X: Data, y: Data | None, control: Data | None, *, reset: bool
    ) -> tuple[Moments | FewRows, float, Home]:
        """Return the moments of the control rows, their resolution, and X's home."""
        eps = storage_eps(X)
        X = validate_rows(self, X, reset=reset)
        xp, _, device = get_namespace_and_device(X)
        rows = control_rows(self, X.shape[0], y, control)
        moments = _moments_of(X, rows, fourth_order=self.shrinkage == "auto")
        _check_overflow(moments)
        return moments, max(eps, float(xp.finfo(X.dtype).eps)), (xp, device)

    def _merge(self, a: Moments | FewRows, b: Moments | FewRows) -> Moments | FewRows:
        """Merge moments of two sets of rows, or the rows while they are few."""
        n_samples = a.n_samples + b.n_samples
        if (
            isinstance(a, FewRows)
            and isinstance(b, FewRows)
            and _are_few(n_samples, len(a.mean))
        ):
            return merge_rows(a, b)
        before, now = (
            batch_moments(m.rows, fourth_order=self.shrinkage == "auto")
            if isinstance(m, FewRows)
            else m
            for m in (a, b)
        )
        if self.shrinkage == "auto" and before.fourth is None:
            raise ValueError(
                "shrinkage='auto' needs fourth moments, which the batches before were "
                "seen without: set shrinkage before the first call of partial_fit, or "
                "start again with fit."
            )
        merged = merge_moments(before, now)
        _check_overflow(merged)
        return merged

    def _remember(
        self, moments: Moments | FewRows, eps: float, *, streamed: bool
    ) -> None:
        # In NumPy and float64 for any namespace of X, so that the state pickles,
        # survives a device without float64 and merges with batches of other namespaces.
        state: dict[str, Any] = dict.fromkeys(
            ["rows", "mean", "scatter", "third", "fourth"]
        )
        if moments.n_samples:
            tensors = {name: vars(moments).get(name) for name in state}
            if isinstance(moments, FewRows):
                tensors = {"rows": moments.rows}
            state |= {k: v.numpy() for k, v in tensors.items() if v is not None}
        self._moments = {"n_samples": moments.n_samples, "eps": eps, **state}
        self._streamed = streamed
        self.n_control_samples_ = moments.n_samples
        for name in ("mean_", "components_", "explained_variance_", "_whitening"):
            if hasattr(self, name):
                delattr(self, name)
        self._missing = None

    def _recall(self) -> tuple[Moments | FewRows, float]:
        """Return the moments of the batches before, and their coarsest resolution."""
        state = {
            key: torch.from_numpy(np.require(as_numpy(value), requirements="W"))
            for key, value in self._moments.items()
            if key not in ("n_samples", "eps") and value is not None
        }
        n_samples, eps = self._moments["n_samples"], self._moments["eps"]
        if n_samples == 0:
            state["rows"] = torch.empty((0, self.n_features_in_), dtype=torch.float64)
        return FewRows(**state) if "rows" in state else Moments(n_samples, **state), eps

    def _whiten(
        self,
        moments: Moments | FewRows,
        found: tuple[Tensor, Tensor, int],
        home: Home,
    ) -> None:
        """Set the fitted attributes from the variances, the axes and the rank."""
        variances, axes, rank = found
        place = partial(place_in, home=home)
        self.mean_ = place(moments.mean)
        self.components_ = place(axes)
        self.explained_variance_ = place(variances)
        self.n_components_ = len(variances)
        self.rank_ = rank
        self._whitening = place(whitening_matrix(variances, axes, self.method))
        self._zca = self.method == "zca"
        deviations = variances.sqrt()
        self._float32_suffices = bool(
            deviations[0] <= _FLOAT32_CONDITION * deviations[-1]
            and deviations[0] < 1e30
            and deviations[-1] > 1e-30
        )

    def _axes(
        self, moments: Moments | FewRows, eps: float
    ) -> tuple[Tensor, Tensor, int]:
        """Return the variances and axes to keep, and the numerical rank."""
        n_controls, n_features = moments.n_samples, len(moments.mean)
        if n_controls < 2:
            raise _TooFewControlsError(
                "A covariance needs at least 2 control rows, but the number of "
                f"controls is n_samples = {n_controls}. {FOLD_REMEDY}."
            )
        _check_underflow(moments, eps)
        variances, axes, held, n_left = self._all_axes(moments, eps)
        keep = supported_axes(variances, axes, rounding_variance(moments, eps))
        if not self.shrinkage:
            keep &= keep.cumsum(0) < n_controls
        variances, axes, held = variances[keep], axes[keep], held[keep]
        rank = len(variances) + n_left
        if rank == 0:
            raise _TooFewControlsError(
                f"The {n_controls} control rows are all equal, to rounding: there is "
                "no variance to whiten by."
            )
        k: Any = self.n_components
        if k is None:
            k = rank
        elif not isinstance(k, Integral):
            held = held.cumsum(0) / (moments.power.sum() / (n_controls - 1))
            k = min(int((held <= k).sum()) + 1, rank)
        elif int(k) > rank:
            raise _TooFewControlsError(
                f"Too few controls for the asked components: n_components={k}, but "
                f"the {n_controls} control rows span {rank} directions above the "
                f"numerical rank, in {n_features} features. Ask for at most {rank}, "
                "pass more controls, or set shrinkage."
            )
        return variances[:k], axes[:k], rank

    def _all_axes(
        self, moments: Moments | FewRows, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, int]:
        """Return variances, axes, control variances along them, number of others.

        The others are axes outside the span of few controls that `n_components` does
        not ask for. A float shrinkage gives all of them the same variance.
        """
        degrees = moments.n_samples - 1
        rounding = rounding_variance(moments, eps)
        if self.shrinkage == "auto":
            varying = moments.power / degrees > rounding.clamp(
                min=_least_variance(moments)
            )
            intensity = _intensity(moments, varying)
            leading = self._leading_axes(moments, rounding, varying, intensity)
            if leading is not None:
                return leading
            cov = covariance(moments)
            variances, axes = principal_axes(shrink_off_diagonal(cov, intensity))
            return variances, axes, ((axes @ cov) * axes).sum(dim=1), 0
        if isinstance(moments, FewRows):
            variances, axes = principal_axes_of_rows(moments)
        else:
            variances, axes = principal_axes(covariance(moments))
        held = variances.clamp(min=0)
        if not self.shrinkage:
            return variances, axes, held, 0
        floor = self.shrinkage * moments.power.mean() / degrees
        variances = (1 - self.shrinkage) * held + floor
        n_left = axes.shape[1] - len(axes)
        if n_left == 0:
            return variances, axes, held, 0
        asked = self.n_components is None or self.n_components > len(axes)
        if asked or not floor > rounding.max():
            axes = torch.cat([axes, complement(axes)])
            variances = torch.cat([variances, floor.expand(n_left)])
            held = torch.cat([held, held.new_zeros(n_left)])
            n_left = 0
        return variances, axes, held, n_left

    def _leading_axes(
        self,
        moments: Moments | FewRows,
        rounding: Tensor,
        varying: Tensor,
        intensity: float,
    ) -> tuple[Tensor, Tensor, Tensor, int] | None:
        """Do as `_all_axes` for shrinkage="auto"; None if that takes all axes."""
        k: Any = self.n_components
        degrees = moments.n_samples - 1
        if k is None or not isinstance(moments, FewRows):
            return None
        wanted = 0.0 if isinstance(k, Integral) else k
        k = int(k) if isinstance(k, Integral) else degrees
        # No axis has less variance than the shrinkage leaves to the features.
        floor = intensity * moments.power[varying] / degrees
        rank = len(floor)
        if k > min(degrees, rank - 1) or not (floor > rounding[varying]).all():
            return None
        variances, axes = leading_shrunk_axes(moments, intensity, k) or (None, None)
        if axes is None or variances is None:
            return None
        held = (moments.centred @ axes.T).square().sum(dim=0) / degrees
        solver = axes.shape[1] * torch.finfo(floor.dtype).eps * variances[0]
        if held.sum() <= wanted * moments.power.sum() / degrees or floor.min() < solver:
            return None
        return variances, axes, held, rank - k

    def _warn_of_few_controls(self) -> None:
        n, d = self.n_control_samples_, self.n_features_in_
        # With more than 2 controls per axis kept, the leading axes are safe.
        if self.shrinkage is None and n < 2 * d and n <= 2 * self.n_components_:
            warn(
                f"{n} control rows for {d} features: fewer than 2 per feature. They "
                "barely span some directions, in which other rows will be blown up. "
                "Set shrinkage='auto', ask for fewer n_components, or pass more "
                "controls.",
            )

    def _check_whitening(self) -> None:
        if hasattr(self, "_whitening"):
            return
        if not hasattr(self, "_moments"):
            raise NotFittedError(
                f"This {type(self).__name__} instance is not fitted yet. Call 'fit' "
                "with appropriate arguments before using this estimator."
            )
        if self.n_control_samples_ == 0:
            raise ValueError(
                "No control row in any batch passed to partial_fit so far: there is "
                "nothing to whiten by."
            )
        raise _TooFewControlsError(self._missing)

    def _working_dtype(self, X: AnyArray) -> Any:
        """Return the dtype in which to compute, which is at least that of X."""
        return X.dtype if self._float32_suffices else self.mean_.dtype

    @property
    def _n_features_out(self) -> int:
        return self._whitening.shape[1]

    def _inconsistency(self) -> str | None:
        """Say what is wrong with an estimator from a file, beyond its table's rules."""
        if not hasattr(self, "_moments"):
            return None
        n_samples, rows, mean, scatter, third, fourth = (
            self._moments[name]
            for name in ("n_samples", "rows", "mean", "scatter", "third", "fourth")
        )
        if (third is None) != (fourth is None):
            return "third and fourth moments come together"
        if (mean is None) != (scatter is None):
            return "mean and scatter come together"
        if (rows is not None) + (mean is not None) != (n_samples > 0):
            return "controls are kept either as rows or as moments"
        if third is not None and mean is None:
            return "fourth moments come with a mean"
        if rows is not None and len(rows) != n_samples:
            return f"{n_samples} controls are counted, but {len(rows)} are kept"
        if not hasattr(self, "_whitening"):
            return None
        n_columns = self.n_features_in_ if self._zca else self.n_components_
        if self._whitening.shape[1] != n_columns:
            return f"_whitening has the shape {self._whitening.shape}"
        return None

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_whitening")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.array_api_support = True
        return tags


def _check_overflow(moments: Moments | FewRows) -> None:
    """Raise ValueError if squares (or fourth powers) of finite rows overflowed."""
    power = moments.power + moments.mean.square()
    fourth = getattr(moments, "fourth", None)
    if fourth is not None:
        power = power + fourth.diagonal()
    # The sum, not each entry: it bounds the trace and thus the largest eigenvalue.
    if torch.isfinite(power.sum()):
        return
    bad = ~torch.isfinite(power) | (power > 1e300)
    degree = "squares" if fourth is None else "fourth powers"
    raise ValueError(
        f"The control rows are too large: their {degree} overflow float64 in "
        f"{int(bad.sum())} of {len(bad)} features (the first is feature "
        f"{int(bad.int().argmax())}). Scale X down."
    )


def _check_underflow(moments: Moments | FewRows, eps: float) -> None:
    """Raise if squares (or fourth powers) of rows that vary lost their digits."""
    n, least = moments.n_samples, _least_variance(moments)
    variance = moments.power / n
    vanished = (moments.mean.square() + variance).max() < _LEAST_SQUARE
    varies = (variance > rounding_variance(moments, eps)).any()
    if vanished or (varies and variance.max() < least):
        degree = "squares" if least == _LEAST_SQUARE else "fourth powers"
        raise _TooFewControlsError(
            f"The {n} control rows are zero or so small that their {degree} underflow "
            "float64: there is no variance to whiten by. Scale X up."
        )


def _least_variance(moments: Moments | FewRows) -> float:
    """Return the variance below which squares (or fourth powers) have lost digits."""
    has_fourth = getattr(moments, "fourth", None) is not None
    return _LEAST_SQUARE**0.5 if has_fourth else _LEAST_SQUARE


@fails_together
def _moments_of(
    X: AnyArray, rows: np.ndarray | None, *, fourth_order: bool
) -> Moments | FewRows:
    """Moments of the given rows, or the rows themselves if they are few.

    Rows are read in blocks, so that X is never copied as a whole.
    """
    X = as_rows(X)
    if rows is not None and len(rows) == X.shape[0]:
        rows = None  # slices instead of a gather
    n_rows = X.shape[0] if rows is None else len(rows)

    def read(part: slice) -> torch.Tensor:
        return as_tensor(X[part] if rows is None else X[rows[part]])

    with np.errstate(over="ignore", invalid="ignore"):  # see _check_overflow
        if _are_few(n_rows, X.shape[1]):
            kept = read(slice(None)).detach().cpu()
            return FewRows(kept.to(torch.float64, copy=True))
        # Of several processes, each reads its part of the rows.
        together = ranks()
        if together.size == 1 and isinstance(X, StoredRows) and is_dask(X.source):
            return _moments_on_workers(X, rows, fourth_order=fourth_order)
        mine = together.cut(n_rows)
        parts = (
            batch_moments(
                read(slice(mine.start + part.start, mine.start + part.stop)),
                fourth_order=fourth_order,
            )
            for part in blocks(mine.stop - mine.start, X.shape[1], _READ_ENTRIES)
        )
        moments = reduce(merge_moments, parts).cpu()  # where the state lives
        return moments if together.size == 1 else _of_all(moments, together)


def _of_all(part: Moments, together: Ranks) -> Moments:
    """Moments of the rows of all processes from those of each."""
    n_samples = together.total(part.n_samples)
    # About the mean of the first process, so that a large offset costs no digits.
    origin = part.mean.clone()
    together.follow_first_([origin])
    mean = origin + together.mean(part.mean - origin, part.n_samples / n_samples)
    sums = [together.sum(about) for about in moments_about(part, mean)]
    return Moments(n_samples, mean, *sums)


def _moments_on_workers(
    X: StoredRows, rows: np.ndarray | None, *, fourth_order: bool
) -> Moments:
    """Moments of rows of a Dask array, of each block where Dask computes it."""
    chosen = np.full(len(X), rows is None)
    if rows is not None:
        chosen[rows] = True
    of_block = partial(
        _moments_of_block, name=X.name, dtype=X.dtype, fourth_order=fourth_order
    )
    moments = reduce_blocks(X.source, of_block, _merge_if_any, chosen)
    assert moments is not None  # few rows are kept as they are
    return moments


def _moments_of_block(
    block: AnyArray,
    start: int,
    chosen: np.ndarray,
    *,
    name: str,
    dtype: Any,
    fourth_order: bool,
) -> Moments | None:
    if not chosen.any():
        return None
    rows = check_part(block, start, name, dtype)
    if not chosen.all():
        rows = rows[chosen]
    with full_precision():
        return batch_moments(as_tensor(rows), fourth_order=fourth_order)


def _merge_if_any(a: Moments | None, b: Moments | None) -> Moments | None:
    if a is None or b is None:
        return b if a is None else a
    return merge_moments(a, b)


def _are_few(n_rows: int, n_features: int) -> bool:
    """Whether rows are kept instead of their moments."""
    return n_rows <= _FEW * n_features


def _intensity(moments: Moments | FewRows, varying: torch.Tensor) -> float:
    if isinstance(moments, FewRows):
        return intensity_of_rows(moments, varying)
    return ledoit_wolf_intensity(moments, varying)
