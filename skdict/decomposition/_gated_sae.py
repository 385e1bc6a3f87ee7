"""The gated sparse autoencoder."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from skdict._utils.types import ArrayLike, Callbacks, Seed
from skdict.decomposition._base import (
    AUTO_TOL,
    AUTOCAST,
    PENALTY,
    TRAINING_FACTOR,
    DictionaryEstimator,
)
from skdict.decomposition._shared_docs import documented
from skdict.models import GatedAutoencoder


@documented
class GatedSAE(DictionaryEstimator):
    """Sparse autoencoder that decides apart which latents fire and how much.

    A latent fires where its gate ``p = W_enc (x - b_pre) + b_enc`` is positive; its
    magnitude is ``relu(exp(r) W_enc (x - b_pre) + b_mag)``. The L1 penalty lies on the
    gates alone, so that it does not make the coefficients smaller.

    Read more in the :ref:`User Guide <dictionaries>`.

    Parameters
    ----------
    n_components : shared
    k : float, default=None
        Wanted mean number of non-zeros of a code. The weight of the penalty then starts
        at ``alpha`` and moves during training, and the biases of the gates are set in
        the end so that held-out rows have that many. None: the weight stays at
        ``alpha``.
    alpha : float, default=0.05
        Weight of the L1 norm of the gates, for rows that are divided by their spread.
        It rises from zero over the first tenth of the steps.
    training_factor : shared
    learning_rate : float, default=3e-3
        Of Adam, on rows that are divided by their spread.
    warmup_steps : shared
    batch_size : shared
    max_iter : shared
    tol : shared (judged)
    n_iter_no_change : shared
    validation_fraction : shared (judged)
    init : shared
    warm_start : shared
    sparse_output : shared
    device : shared
    autocast : shared
    random_state : shared
    verbose : shared
    callbacks : shared

    Attributes
    ----------
    components_ : shared
    pre_bias_ : shared
    encoder_components_ : shared
    encoder_bias_ : ndarray of shape (n_components,)
        The gates' offsets.
    log_gain_ : ndarray of shape (n_components,)
        Logarithm of what magnitudes are multiplied by.
    magnitude_bias_ : ndarray of shape (n_components,)
        Offsets of the magnitudes.
    feature_density_ : shared
    dead_features_ : shared
    n_iter_ : shared
    n_steps_ : shared
    n_samples_seen_ : shared
    history_ : shared
    n_features_in_ : shared
    feature_names_in_ : shared

    See Also
    --------
    SAE : Gate and magnitude are one.
    JumpReLUSAE : A learned threshold for every latent.

    Notes
    -----
    The loss is ``||x - x_hat||^2 / 2 + alpha ||relu(p)||_1 + ||x - x_gate||^2 / 2``,
    mean over the rows, where ``x_gate`` is what ``relu(p)`` rebuilds with atoms and
    pre-bias held fixed: the gates learn from the last two terms only [1]_.

    Departures from [1]_: the encoder starts as the decoder; with ``k``, the gates'
    biases start where ``k`` of them are open a row, a controller moves the weight of
    the penalty, and after training one number is added to all biases; Adam has its
    usual momentum.

    With ``k``, ``validation_explained_variance`` in ``history_`` is what the held-out
    rows would have if training ended there, with ``k`` non-zeros in the mean; the best
    epoch is kept. Without ``k``, or if nothing is held out, the last epoch is kept and
    training does not end early by default: while codes become sparse, they explain
    less.

    References
    ----------
    .. [1] Rajamanoharan, S. et al. "Improving Dictionary Learning with Gated Sparse
       Autoencoders". NeurIPS 2024. arXiv:2404.16014.

    Examples
    --------
    >>> from skdict import GatedSAE
    >>> from skdict.datasets import make_planted_dictionary
    >>> X = make_planted_dictionary(2000, 16, random_state=0).data
    >>> sae = GatedSAE(n_components=64, k=4, random_state=0).fit(X)
    >>> 3.8 < sae.transform(X).nnz / 2000 < 4.2
    True
    """

    _model = GatedAutoencoder
    _parameter_constraints: dict = {
        **DictionaryEstimator._parameter_constraints,
        **AUTOCAST,
        **TRAINING_FACTOR,
        **PENALTY,
        **AUTO_TOL,
    }

    def __init__(
        self,
        n_components: int | None = None,
        k: float | None = None,
        *,
        alpha: float = 0.05,
        training_factor: float = 1,
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
        self.alpha = alpha
        self.training_factor = training_factor
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

    def _new_model(self, atoms: Tensor, n_samples: int) -> GatedAutoencoder:
        return GatedAutoencoder(
            atoms,
            alpha=self.alpha,
            k=self.k,
            scale_encoder=isinstance(self.init, str),
            autocast=self.autocast,
            training_factor=self.training_factor,
        )
