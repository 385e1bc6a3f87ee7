"""The transcoder: a dictionary that rebuilds something else than its rows."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator
from typing import Any, Literal, Self, cast

import torch
from sklearn.base import RegressorMixin
from sklearn.utils import Tags
from torch import Tensor

from skdict._guards import own_precision
from skdict._ranks import ranks
from skdict._utils.fitted import Fitted, Flag, Number
from skdict._utils.sklearn_private import StrOptions
from skdict._utils.types import AnyArray, ArrayLike, Callbacks, Codes, Data, Seed
from skdict.decomposition._base import (
    AUTO_TOL,
    AUTOCAST,
    AUXILIARY_LOSS,
    MeanSparsity,
    check_batch,
)
from skdict.decomposition._shared_docs import documented
from skdict.models import Transcoder as TranscoderModel
from skdict.models import transcoder
from skdict.rows import ScaledRows, as_rows, by_blocks, like, validate_targets
from skdict.training.net import DictionaryNet

Activation = Literal["topk", "batch_topk", "relu", "jump_relu", "gated"]

# Weights of the penalties, before the wanted sparsity moves them.
_PENALTIES: dict[str, dict[str, float]] = {
    "relu": {"alpha": 0.05, "training_factor": 1.4},
    "gated": {"alpha": 0.05},
    "jump_relu": {"bandwidth": 0.2, "training_factor": 1.5},
}
# Attributes that only some activations have.
_OPTIONAL = ("threshold_", "log_gain_", "magnitude_bias_", "skip_components_")


@documented
class Transcoder(RegressorMixin, MeanSparsity):
    """Sparse dictionary between rows and their targets: x, code, y.

    ``z = activation(W_enc (x - b_in) + b_enc)`` and ``y_hat = z W_dec + b_out``, to
    which a skip connection adds ``W_skip (x - b_in)``. The rows may be what enters a
    layer of a network and the targets what leaves it [1]_, or rows and targets may be
    embeddings of the same cells by two models. To scikit-learn it is a transformer,
    whose codes are the features, and a regressor.

    Read more in the :ref:`User Guide <transcoder>`.

    Parameters
    ----------
    n_components : int, default=None
        Number of atoms. None: ``8 * n_features``, or as many as ``init`` holds.
    k : float, default=None
        Mean number of non-zeros of a code. With ``activation="topk"`` it is their
        largest number, and whole. None: a tenth of the features, at least 1, at most
        ``n_components``. Larger values count as ``n_components``, with a warning.
    activation : {"topk", "batch_topk", "relu", "jump_relu", "gated"}, default="topk"
        The encoder of :class:`TopKSAE`, :class:`BatchTopKSAE`, :class:`SAE`,
        :class:`JumpReLUSAE` or :class:`GatedSAE`. Each is trained for ``k`` non-zeros,
        and in the end that of "relu" is scaled by one number, as in :class:`SAE`.
    skip_connection : bool, default=False
        Whether a linear map of the row is added, so that codes need not explain what
        such a map does [2]_.
    auxiliary_weight : float, default=0.03125
        Weight of the auxiliary loss of "topk" and "batch_topk", in which the ``k``
        strongest dead latents of a row rebuild the residual of the target. 0 leaves it
        out.
    dead_after : shared
    learning_rate : float, default=3e-3
        Of Adam, on rows and targets that are divided by their spread.
    warmup_steps : shared
    batch_size : shared
    max_iter : int, default=100
        Largest number of epochs, that is passes over the data. The learning rate falls
        linearly to zero over them, with "relu" and "jump_relu" over the last fifth of
        them if rows are held out. With 0 the transcoder stays as it starts.
    tol : float, "auto" or None, default="auto"
        An epoch is flat if it raises the explained variance by no more than this. After
        ``n_iter_no_change`` flat epochs the learning rate falls to zero within the same
        number of epochs, and training ends. None trains for ``max_iter`` epochs. "auto"
        is 1e-3, but None for "relu", which explains less while its codes become
        sparse, and for "gated" and "jump_relu" where no rows are held out.
    n_iter_no_change : shared
    validation_fraction : shared
    init : {"random", "samples"} or array-like, default="samples"
        First atoms. "random": drawn uniformly from the unit sphere. "samples": targets
        minus their mean, and random atoms where rows are too few. An array of shape
        (n_components, n_targets): the atoms themselves. All are scaled to unit norm.
    warm_start : shared
    sparse_output : shared
    device : shared
    autocast : shared
    random_state : shared
    verbose : shared
    callbacks : shared

    Attributes
    ----------
    components_ : ndarray of shape (n_components, n_targets)
        The atoms (directions of the targets), unit rows.
    bias_ : ndarray of shape (n_targets,)
        Added after decoding.
    encoder_components_ : shared
    encoder_bias_ : shared
    input_bias_ : ndarray of shape (n_features,)
        Subtracted before encoding: the mean of the rows of the first fit.
    skip_components_ : ndarray of shape (n_targets, n_features)
        The linear map, with ``skip_connection=True``.
    threshold_ : ndarray of shape () or (n_components,)
        Activations above it count, with "batch_topk" and "jump_relu".
    log_gain_, magnitude_bias_ : ndarray of shape (n_components,)
        As in :class:`GatedSAE`, with "gated".
    feature_density_ : shared
    dead_features_ : shared
    n_iter_ : shared
    n_steps_ : shared
    n_samples_seen_ : shared
    history_ : list of dict
        As in the other dictionaries; loss and explained variance are those of the
        targets.
    n_features_in_ : shared
    feature_names_in_ : shared

    See Also
    --------
    TopKSAE : The same where the target is the row.
    sklearn.linear_model.Ridge : What a linear map explains.

    Notes
    -----
    Rows and targets are divided by a spread of their own for training, so that neither
    scale matters. Codes and atoms are in the units of the targets.

    The loss is half the squared error of the target, with what the activation adds;
    :class:`TopKSAE` and the other autoencoders say what. In the auxiliary loss of
    "gated", the skip connection is held fixed like the decoder.

    The encoder of each atom starts as a row whose target lies along the atom, and one
    factor scales all of them so that the first prediction is best; nothing is scaled
    with an array as ``init``. If targets and rows are the same, this is how the
    autoencoders start.

    Departures from [1]_ and [2]_: atoms have unit norm, and therefore do not start as
    zeros (the skip connection does). The mean of the rows is subtracted before
    encoding and before the skip connection; ``encoder_bias_`` and ``bias_`` could hold
    what it contributes, and it is not learned. ``k`` sets the sparsity of every
    activation.

    References
    ----------
    .. [1] Dunefsky, J., Chlenski, P. and Nanda, N. "Transcoders Find Interpretable LLM
       Feature Circuits". NeurIPS 2024. arXiv:2406.11944.

    .. [2] Paulo, G., Shabalin, S. and Belrose, N. "Transcoders Beat Sparse Autoencoders
       for Interpretability". 2025. arXiv:2501.18823.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skdict import Transcoder
    >>> X, _ = load_digits(return_X_y=True)
    >>> left, right = X[:, :32], X[:, 32:]
    >>> model = Transcoder(n_components=128, k=8, random_state=0).fit(left, right)
    >>> model.transform(left).shape
    (1797, 128)
    >>> model.predict(left).shape
    (1797, 32)
    """

    _parameter_constraints: dict = {
        **MeanSparsity._parameter_constraints,
        "activation": [
            StrOptions({"topk", "batch_topk", "relu", "jump_relu", "gated"})
        ],
        "skip_connection": ["boolean"],
        **AUTOCAST,
        **AUXILIARY_LOSS,
        **AUTO_TOL,
    }

    _input_scale: float
    _is_flat: bool

    def __init__(
        self,
        n_components: int | None = None,
        k: float | None = None,
        *,
        activation: Activation = "topk",
        skip_connection: bool = False,
        auxiliary_weight: float = 1 / 32,
        dead_after: float = 1.0,
        learning_rate: float = 3e-3,
        warmup_steps: int = 0,
        batch_size: int | Literal["auto"] = "auto",
        max_iter: int = 100,
        tol: float | Literal["auto"] | None = "auto",
        n_iter_no_change: int = 5,
        validation_fraction: float | None = 0.1,
        init: Literal["random", "samples"] | ArrayLike = "samples",
        warm_start: bool = False,
        sparse_output: bool = True,
        device: str = "auto",
        autocast: bool = False,
        random_state: Seed = None,
        verbose: int = 0,
        callbacks: Callbacks = None,
    ) -> None:
        self.n_components = n_components
        self.k = k
        self.activation = activation
        self.skip_connection = skip_connection
        self.auxiliary_weight = auxiliary_weight
        self.dead_after = dead_after
        self.learning_rate = learning_rate
        self.warmup_steps = warmup_steps
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.validation_fraction = validation_fraction
        self.init = init
        self.warm_start = warm_start
        self.sparse_output = sparse_output
        self.device = device
        self.autocast = autocast
        self.random_state = random_state
        self.verbose = verbose
        self.callbacks = callbacks

    def fit(self, X: Data, y: Data = None) -> Self:
        """Learn to rebuild targets from sparse codes of the rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows. float16, bfloat16, integers and booleans become float32.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Targets; they are converted to the dtype of the rows.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If ``X`` or ``y`` is empty, holds NaN or infinity or is too large for the
            dtype, if their lengths differ, if ``init`` or the dictionary of a warm
            start has a different shape, or if training diverges.
        """
        return super().fit(X, y)

    def partial_fit(self, X: Data, y: Data = None) -> Self:
        """Go on learning with one epoch over ``X`` and ``y``.

        The first call fixes the scales of rows and targets, the input bias and the
        initial atoms, so it should be a fair sample; if all of its rows or all of its
        targets are equal, the next call is the first one. The state of the optimiser is
        kept between calls. The learning rate falls slowly and never reaches zero; the
        steps of an earlier :meth:`fit` count.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            New rows.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Their targets.

        Returns
        -------
        self : object
            The estimator.

        Raises
        ------
        ValueError
            As in :meth:`fit`, and if the number of features or of targets differs from
            that of earlier calls.

        Warns
        -----
        UserWarning
            If the rows or the targets lie over a hundred times farther from their bias
            than those of the first call, or nearer. The scales of the first call are
            kept.
        """
        return super().partial_fit(X, y)

    @by_blocks
    @own_precision
    def predict(self, X: Data) -> AnyArray:
        """Predict targets from the codes of rows, and from the skip connection.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        y : array of shape (n_samples,) or (n_samples, n_targets)
            The prediction, with as many dimensions as the targets in :meth:`fit`.

        Raises
        ------
        ValueError
            If ``X`` is empty, holds NaN or infinity, has a different number of features
            than in :meth:`fit`, or is so large that the prediction overflows its dtype.
        """
        X = self._validate_new(X, method="predict")
        y = like(torch.cat(list(self._predict(X))), X)
        return y[:, 0] if self._is_flat else y

    def _predict(self, X: AnyArray) -> Iterator[Tensor]:
        for i, (rows, code, model) in enumerate(self._encode(X)):
            with torch.no_grad():
                y = model.rebuild(rows, code)
            finite = y.isfinite().all(1)
            check_batch(finite, y.dtype, "The prediction", i, X.shape[0])
            yield y

    def score(self, X: Data, y: Data = None, sample_weight: Data = None) -> float:
        """Coefficient of determination, as every regressor of scikit-learn gives it.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Their targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.

        Returns
        -------
        float
            The mean over the targets of :math:`R^2`, as
            :func:`sklearn.metrics.r2_score` computes it. The explained variance in
            ``history_`` weighs the targets by their variance instead.
        """
        return RegressorMixin.score(self, X, y, sample_weight)

    def inverse_transform(self, X: Codes) -> AnyArray:
        """Rebuild targets from codes alone: ``X @ components_ + bias_``.

        With a skip connection this is what :meth:`predict` says of a row that lies at
        the input bias.

        Parameters
        ----------
        X : CSR matrix or array-like of shape (n_samples, n_components)
            Codes.

        Returns
        -------
        y : array of shape (n_samples, n_targets)
            The targets.

        Raises
        ------
        ValueError
            If ``X`` is empty, holds NaN or infinity, has a different number of columns
            than there are components, or if the targets overflow its dtype.
        """
        return super().inverse_transform(X)

    # What differs from the other dictionaries

    @property
    def _model(self) -> type[TranscoderModel]:
        return transcoder(self.activation, self.skip_connection)

    @property
    def _fitted(self) -> tuple[dict[str, Fitted], ...]:
        own: dict[str, Fitted] = {"_input_scale": Number(low=0), "_is_flat": Flag()}
        return (dict(ChainMap(own, *super()._fitted)),)

    @property
    def _has_begun(self) -> bool:
        # Rows or targets that do not vary tell nothing of where an encoder starts.
        fitted = self.__sklearn_is_fitted__()
        return fitted and self._scale > 0 and self._input_scale > 0

    def _inputs_and_targets(
        self, X: AnyArray, y: Data, *, go_on: bool, resumes: bool
    ) -> tuple[ScaledRows, ScaledRows]:
        if y is None:
            raise ValueError(
                "This Transcoder estimator requires y to be passed, but the target y "
                "is None."
            )
        y = validate_targets(y, X)
        self._is_flat = y.ndim == 1
        if y.ndim == 1:
            y = y[:, None]
        if go_on and y.shape[1] != len(self.bias_):
            raise ValueError(
                f"y has {y.shape[1]} targets, but this Transcoder was fitted with "
                f"{len(self.bias_)}."
            )
        before = self._input_scale if go_on else 0.0
        inputs = ScaledRows(as_rows(X), before, ranks=ranks())
        targets = ScaledRows(y, self._scale if go_on else 0.0, "y", ranks())
        if resumes:
            inputs.keep_scale(self.input_bias_, "input_bias_")
            targets.keep_scale(self.bias_, "bias_")
        info = torch.finfo(inputs.mean.dtype)
        ratio = targets.divisor / inputs.divisor
        if not info.tiny / info.eps < ratio < info.max * info.eps:
            raise ValueError(
                f"The spread of y is {ratio:.2g} times that of X, and the encoder's "
                "entries would leave the range of their dtype. Scale y or X."
            )
        self._input_scale = inputs.scale
        return inputs, targets

    def _fitted_model(self, n_samples: int = 1) -> TranscoderModel:
        for parameter in self._model.fitted.values():
            value = vars(self).get(parameter.attribute)
            if value is None or value.ndim != len(parameter.rule.shape):
                raise ValueError(
                    f"There is no {parameter.attribute} for activation="
                    f"{self.activation!r} and skip_connection={self.skip_connection}: "
                    "they were others in fit. Fit anew."
                )
        return cast("TranscoderModel", super()._fitted_model(n_samples))

    def _keep(self, net: DictionaryNet, X: AnyArray) -> None:
        for attribute in _OPTIONAL:  # of an earlier fit with another activation
            if hasattr(self, attribute):
                delattr(self, attribute)
        super()._keep(net, X)

    def _new_model(self, atoms: Tensor, n_samples: int) -> TranscoderModel:
        is_whole = self.k is None or float(self.k).is_integer()
        if self.activation == "topk" and not is_whole:
            raise ValueError(
                f"activation='topk' keeps a whole number of latents, but k={self.k}. "
                "The other activations take fractions."
            )
        options: dict[str, Any] = _PENALTIES.get(
            self.activation,
            {
                "auxiliary_weight": self.auxiliary_weight,
                "dead_after": self.dead_after * n_samples,
            },
        )
        return self._model(
            atoms,
            n_features=self.n_features_in_,
            k=self._n_active(len(atoms), self.n_features_in_),
            scale_encoder=isinstance(self.init, str),
            autocast=self.autocast,
            **options,
        )

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
