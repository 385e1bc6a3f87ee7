"""The ReLU autoencoder with an L1 penalty."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from skdict._utils.types import ArrayLike, Callbacks, Seed
from skdict.decomposition._base import (
    AUTOCAST,
    PENALTY,
    TRAINING_FACTOR,
    DictionaryEstimator,
)
from skdict.decomposition._shared_docs import documented
from skdict.models import ReLUAutoencoder


@documented
class SAE(DictionaryEstimator):
    """Sparse autoencoder with ReLU and an L1 penalty.

    ``z = relu(W_enc (x - b_pre) + b_enc)`` and ``x_hat = z W_dec + b_pre``; the loss
    is ``||x - x_hat||^2 / 2 + alpha ||z||_1``, mean over the rows. A code may have any
    number of non-zeros: ``k`` sets their mean number, or ``alpha`` weighs the penalty.

    Read more in the :ref:`User Guide <dictionaries>`.

    Parameters
    ----------
    n_components : shared
    k : float, default=None
        Wanted mean number of non-zeros of a code. The weight of the penalty then
        starts at ``alpha`` and moves during training, and in the end ``encoder_bias_``
        is set so that the codes of the held-out rows have that many, and the encoder is
        scaled by one number so that they rebuild these rows best. None: the weight
        stays at ``alpha``, and nothing is set in the end.
    alpha : float, default=0.05
        Weight of the L1 norm of the codes. The rows are divided by their spread first,
        so it means the same for data of any scale. It rises from zero over the first
        tenth of the steps.
    training_factor : shared
    learning_rate : float, default=8e-3
        Learning rate of Adam, on rows divided by their spread.
    warmup_steps : shared
    batch_size : shared (16th)
    max_iter : shared (constant)
    tol : shared
    n_iter_no_change : shared
    validation_fraction : float or None, default=0.1
        Fraction of the rows that :meth:`fit` holds out at random. If that makes fewer
        than five rows, none are held out. With ``k``, active features are counted on
        the held-out rows, because rows from which nothing is learned activate more of
        them. None: count them on all rows.
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
    TopKSAE : Keeps the ``k`` largest latents of each row instead.
    ICFL : Dictionary whose encoder is a pursuit, not learned.

    Notes
    -----
    Decoder rows have unit norm, so that the penalty cannot be escaped by small codes
    and large atoms [1]_. The encoder starts as the decoder, scaled so that it rebuilds
    the rows best; the pre-bias starts as the geometric median of a sample. Atoms start
    at random: from samples, they explain more of small tables, but many may stay dead,
    and they agree less with features that outnumber them. The penalty
    makes all coefficients smaller than a least-squares fit would. With the same number
    of non-zeros, this model therefore explains less than :class:`TopKSAE`, also after
    the one number that :meth:`fit` with ``k`` multiplies all coefficients by in the
    end, which [1]_ does not have. :meth:`partial_fit` does not multiply them: the next
    part of a stream would shrink them again.

    By default training does not end early. The parameters of the last epoch are kept,
    not those of the epoch that explains most, because codes explain less as they become
    sparser. ``history_`` tells what they explain before they are multiplied.

    References
    ----------
    .. [1] Bricken, T. et al. "Towards Monosemanticity: Decomposing Language Models
       With Dictionary Learning". Transformer Circuits Thread, 2023.

    Examples
    --------
    >>> from skdict import SAE
    >>> from skdict.datasets import make_planted_dictionary
    >>> X = make_planted_dictionary(2000, 16, random_state=0).data
    >>> sae = SAE(n_components=64, k=6, random_state=0).fit(X)
    >>> codes = sae.transform(X)
    >>> codes.shape
    (2000, 64)
    >>> 5 < codes.nnz / 2000 < 7
    True
    """

    _model = ReLUAutoencoder
    _parameter_constraints: dict = {
        **DictionaryEstimator._parameter_constraints,
        **AUTOCAST,
        **TRAINING_FACTOR,
        **PENALTY,
    }

    def __init__(
        self,
        n_components: int | None = None,
        k: float | None = None,
        *,
        alpha: float = 0.05,
        training_factor: float = 1.4,
        learning_rate: float = 8e-3,
        warmup_steps: int = 0,
        batch_size: int | Literal["auto"] = "auto",
        max_iter: int = 100,
        tol: float | None = None,
        n_iter_no_change: int = 5,
        validation_fraction: float | None = 0.1,
        init: Literal["random", "samples"] | ArrayLike = "random",
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

    def _new_model(self, atoms: Tensor, n_samples: int) -> ReLUAutoencoder:
        return ReLUAutoencoder(
            atoms,
            alpha=self.alpha,
            k=self.k,
            scale_encoder=isinstance(self.init, str),
            autocast=self.autocast,
            training_factor=self.training_factor,
        )
