"""The TopK sparse autoencoder."""

from __future__ import annotations

from numbers import Real

from skdict._utils.constraints import Interval
from skdict.decomposition._base import FixedSparsity
from skdict.models import TopKAutoencoder


class TopKSAE(FixedSparsity):
    """TopK sparse autoencoder, with the auxiliary loss that revives dead latents.

    ``z = TopK(relu(W_enc (x - b_pre) + b_enc))`` and ``x_hat = z W_dec + b_pre``.
    The baseline of the paper, after Gao et al. (2024), with the changes that small
    tables need (see Notes).

    Read more in the :ref:`User Guide <dictionaries>`.

    Parameters
    ----------
    n_components : int, default=None
        Number of latents. None: ``8 * n_features``, or as many as ``init`` holds.
    k : int, default=None
        Most active latents of a code. None: a tenth of the features, at least 1, at
        most ``n_components``. Larger values count as ``n_components``, with a
        warning.
    auxiliary_weight : float, default=1/32
        Weight of the auxiliary loss: the squared error with which the
        ``k`` strongest dead latents of a row rebuild the residual, relative to
        the residual's own, beside the squared error of the reconstruction relative
        to the rows' variance. 0 leaves it out.
    dead_after : float, default=1.0
        Passes over the data without firing after which a latent counts as dead for
        the auxiliary loss. Relative, because no count of rows suits tables of all
        sizes; :meth:`partial_fit` counts a call as a pass.
    learning_rate : float, default=3e-3
        Of Adam, on rows that are divided by their spread.
    batch_size : int or "auto", default="auto"
        Rows per step. "auto" takes a 16th of the rows, at least 256 and at most
        4096.
    max_iter : int, default=100
        Passes over the data, at most. The learning rate falls linearly to zero
        over them. With 0 the dictionary stays as ``init`` makes it: a baseline.
    tol : float or None, default=1e-3
        A pass that raises the explained variance by less counts as flat; after
        ``n_iter_no_change`` flat passes the learning rate falls to zero within as
        many more, and training ends. None trains for ``max_iter`` passes.
    n_iter_no_change : int, default=5
        See ``tol``.
    validation_fraction : float or None, default=0.1
        Share of the rows, rounded down, that :meth:`fit` holds out at random where
        they are five at least. Flat
        passes are those that do not raise the explained variance of these rows, and
        the parameters of the best pass are kept, because the encoder overfits small
        tables. None: learn from all rows, and judge passes by them.
    init : {"random", "samples"} or array-like, default="samples"
        First atoms: drawn uniformly from the unit sphere, rows of the data less
        their mean (random ones where there are too few rows), or given, of shape
        (n_components, n_features). They are scaled to unit norm.
    warm_start : bool, default=False
        Start :meth:`fit` from the last dictionary; ``init`` then counts only the
        first time.
    sparse_output : bool, default=True
        Codes as a CSR matrix, or as a dense array (needed by ``set_output`` and by
        array-API dispatch).
    device : str, default="auto"
        Where torch computes: "auto" takes CUDA, then MPS, then the CPU. Any name
        that torch knows, such as "cuda:1", is accepted.
    random_state : int, RandomState instance or None, default=None
        Seed of the first atoms, of the order of the rows. With an
        int, two fits on the same machine with the same number of threads agree to
        the bit on the CPU.
    verbose : int, default=0
        Above zero, a progress bar with loss, explained variance and dead share.
    callbacks : list of callables or None, default=None
        Each is called after every pass with that pass's entry of ``history_``;
        training stops where one returns True.

    Attributes
    ----------
    components_ : ndarray of shape (n_components, n_features)
        The atoms (feature directions), unit rows.
    pre_bias_ : ndarray of shape (n_features,)
        Subtracted before encoding, added after decoding.
    encoder_components_ : ndarray of shape (n_components, n_features)
        The encoder's directions.
    encoder_bias_ : ndarray of shape (n_components,)
        The encoder's offsets.
    feature_density_ : ndarray of shape (n_components,)
        Share of the samples on which each feature fired, over the last pass of
        training, in which the dictionary still moved.
    dead_features_ : ndarray of bool of shape (n_components,)
        Features whose density is below 1e-5.
    n_iter_ : int
        Passes made; with :meth:`partial_fit`, its calls.
    n_steps_ : int
        Optimisation steps made.
    n_samples_seen_ : int
        Rows of :meth:`fit` and of later calls of :meth:`partial_fit`.
    history_ : list of dict
        One per pass: ``epoch``, ``loss`` (mean squared error of a row),
        ``explained_variance``, ``dead_fraction``, ``resets``, ``learning_rate`` and
        ``seconds``, all but the last as the rows went by; with
        ``validation_fraction`` also ``validation_explained_variance``, behind the
        pass.
    n_features_in_ : int
        Number of features seen during :meth:`fit`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features seen during :meth:`fit`, where all are strings.

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
    the rows; a latent counts as dead after a pass, not after 10 million rows; the
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
