"""The TopK sparse autoencoder."""

from __future__ import annotations

from numbers import Real

from skdict._utils.constraints import Interval
from skdict.decomposition._base import FixedSparsity
from skdict.decomposition._shared_docs import documented
from skdict.models import TopKAutoencoder


@documented
class TopKSAE(FixedSparsity):
    """TopK sparse autoencoder, with the auxiliary loss that revives dead latents.

    ``z = TopK(relu(W_enc (x - b_pre) + b_enc))`` and ``x_hat = z W_dec + b_pre``.
    The baseline of the paper, after Gao et al. (2024), with the changes that small
    tables need (see Notes).

    Read more in the :ref:`User Guide <dictionaries>`.

    Parameters
    ----------
    n_components : shared
    k : shared
    auxiliary_weight : float, default=1/32
        Weight of the auxiliary loss: the squared error with which the
        ``k`` strongest dead latents of a row rebuild the residual, relative to
        the residual's own, beside the squared error of the reconstruction relative
        to the rows' variance. 0 leaves it out.
    dead_after : float, default=1.0
        Epochs without firing after which a latent counts as dead for
        the auxiliary loss. Relative, because no count of rows suits tables of all
        sizes; :meth:`partial_fit` counts a call as an epoch.
    learning_rate : float, default=3e-3
        Of Adam, on rows that are divided by their spread.
    batch_size : shared
    max_iter : shared
    tol : shared
    n_iter_no_change : shared
    validation_fraction : shared
    init : shared
    warm_start : shared
    sparse_output : shared
    device : shared
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
    ICFL : Dictionary whose encoder is a pursuit, not learned.
    Reconstructor : Gives the reconstruction inside a Pipeline.

    Notes
    -----
    Decoder rows have unit norm; the part of their gradient that the projection
    would undo is removed. The encoder starts as the decoder (tied), the pre-bias as
    the geometric median of a sample. A latent that ReLU sets to zero has not fired,
    even where it is among the ``k`` largest. Gradients are exact, and summed from
    the active latents only.

    Departures from Gao et al.: atoms start as samples, and one factor scales the first
    encoder so that it rebuilds the rows best (with an array as ``init`` nothing is
    scaled); as many dead latents as ``k`` rebuild the residual, not half the width of
    the rows; a latent counts as dead after an epoch, not after 10 million rows; the
    learning rate is higher, falls to zero, and training ends on held-out rows.

    References
    ----------
    Gao, L. et al. "Scaling and evaluating sparse autoencoders". 2024.
    arXiv:2406.04093.

    Makhzani, A. and Frey, B. "k-Sparse autoencoders". 2013. arXiv:1312.5663.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skdict import TopKSAE
    >>> X, _ = load_digits(return_X_y=True)
    >>> sae = TopKSAE(n_components=128, k=8, random_state=0).fit(X)
    >>> sae.transform(X).shape
    (1797, 128)
    >>> sae.score(X) > 0.7
    True
    """

    _parameter_constraints: dict = {
        **FixedSparsity._parameter_constraints,
        "auxiliary_weight": [Interval(Real, 0, None, closed="left")],
        "dead_after": [Interval(Real, 0, None, closed="neither")],
    }

    _model = TopKAutoencoder

    def __init__(
        self,
        n_components=None,
        k=None,
        *,
        auxiliary_weight=1 / 32,
        dead_after=1.0,
        learning_rate=3e-3,
        batch_size="auto",
        max_iter=100,
        tol=1e-3,
        n_iter_no_change=5,
        validation_fraction=0.1,
        init="samples",
        warm_start=False,
        sparse_output=True,
        device="auto",
        random_state=None,
        verbose=0,
        callbacks=None,
    ):
        self.n_components = n_components
        self.k = k
        self.auxiliary_weight = auxiliary_weight
        self.dead_after = dead_after
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.validation_fraction = validation_fraction
        self.init = init
        self.warm_start = warm_start
        self.sparse_output = sparse_output
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self.callbacks = callbacks

    def _new_model(self, atoms, n_samples):
        return TopKAutoencoder(
            atoms,
            self._n_active(*atoms.shape),
            scale_encoder=isinstance(self.init, str),
            auxiliary_weight=self.auxiliary_weight,
            dead_after=self.dead_after * n_samples,
        )
