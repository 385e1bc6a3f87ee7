"""The JumpReLU sparse autoencoder."""

from __future__ import annotations

from numbers import Real
from typing import Literal

from torch import Tensor

from skdict._utils.constraints import Interval
from skdict._utils.types import ArrayLike, Callbacks, Seed
from skdict.decomposition._base import (
    AUTO_TOL,
    AUTOCAST,
    PENALTY,
    TRAINING_FACTOR,
    DictionaryEstimator,
)
from skdict.decomposition._shared_docs import documented
from skdict.models import JumpReLUAutoencoder


@documented
class JumpReLUSAE(DictionaryEstimator):
    """Sparse autoencoder with a learned threshold for every latent.

    ``z = a`` where ``a = W_enc (x - b_pre) + b_enc`` exceeds the latent's threshold,
    else 0, and ``x_hat = z W_dec + b_pre``; the loss is ``||x - x_hat||^2 / 2 + alpha
    ||z||_0``, mean over the rows. Unlike an L1 penalty, this one does not make the
    coefficients smaller.

    Read more in the :ref:`User Guide <dictionaries>`.

    Parameters
    ----------
    n_components : shared
    k : float, default=None
        Wanted mean number of non-zeros of a code. The weight of the penalty then starts
        at ``alpha`` and moves during training, and the thresholds are set in the end so
        that held-out rows have that many. None: the weight stays at ``alpha``.
    alpha : float, default=0.005
        Weight of the number of non-zeros, for rows that are divided by their spread. It
        rises from zero over the first tenth of the steps.
    bandwidth : float, default=0.2
        Width around a threshold in which activations tell its gradient, for rows
        that are divided by their spread.
    training_factor : shared
    learning_rate : float, default=3e-3
        Of Adam, on rows that are divided by their spread.
    warmup_steps : shared
    batch_size : shared
    max_iter : shared (constant)
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
    encoder_bias_ : shared
    threshold_ : ndarray of shape (n_components,)
        Activations of each latent above it count.
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
    BatchTopKSAE : One threshold for all latents.
    SAE : The threshold is zero, and the penalty L1.

    Notes
    -----
    The step function has no gradient; thresholds learn from pseudo-derivatives, a
    rectangle of ``bandwidth`` around them, as in [1]_. The thresholds are in float32 or
    float64 like the rows, never in a shorter format, which would lose what they learn.

    Departures from [1]_: the encoder starts as the decoder; with ``k``, training has
    ``training_factor`` times as many latents active, all thresholds start at the number
    that as many activations a row exceed, where [1]_ has 0.001, a controller moves the
    weight of the penalty, the learning rate is constant for four fifths of the steps,
    and after training one factor scales all thresholds to leave ``k``; thresholds and
    biases move a tenth of the way that Adam would; Adam has its usual momentum.

    With ``k``, ``validation_explained_variance`` in ``history_`` is what the held-out
    rows would have if training ended there, with ``k`` non-zeros in the mean; the best
    epoch is kept. Without ``k``, or if nothing is held out, the last epoch is kept and
    training does not end early by default: while codes become sparse, they explain
    less.

    References
    ----------
    .. [1] Rajamanoharan, S. et al. "Jumping Ahead: Improving Reconstruction Fidelity
       with JumpReLU Sparse Autoencoders". 2024. arXiv:2407.14435.

    Examples
    --------
    >>> from skdict import JumpReLUSAE
    >>> from skdict.datasets import make_planted_dictionary
    >>> X = make_planted_dictionary(2000, 16, random_state=0).data
    >>> sae = JumpReLUSAE(n_components=64, k=4, random_state=0).fit(X)
    >>> 3.8 < sae.transform(X).nnz / 2000 < 4.2
    True
    """

    _model = JumpReLUAutoencoder
    _parameter_constraints: dict = {
        **DictionaryEstimator._parameter_constraints,
        **AUTOCAST,
        **TRAINING_FACTOR,
        **PENALTY,
        **AUTO_TOL,
        "bandwidth": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self,
        n_components: int | None = None,
        k: float | None = None,
        *,
        alpha: float = 0.005,
        bandwidth: float = 0.2,
        training_factor: float = 1.5,
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
        self.bandwidth = bandwidth
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

    def _new_model(self, atoms: Tensor, n_samples: int) -> JumpReLUAutoencoder:
        return JumpReLUAutoencoder(
            atoms,
            alpha=self.alpha,
            k=self.k,
            bandwidth=self.bandwidth,
            scale_encoder=isinstance(self.init, str),
            autocast=self.autocast,
            training_factor=self.training_factor,
        )
