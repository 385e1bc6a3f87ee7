"""Iterative Codebook Feature Learning."""

from __future__ import annotations

import copy
from numbers import Integral, Real

from sklearn.utils.validation import check_is_fitted

from skdict._utils.constraints import Interval
from skdict._utils.sklearn_private import StrOptions
from skdict.decomposition._base import FixedSparsity
from skdict.models import PursuitDictionary


class ICFL(FixedSparsity):
    """Iterative Codebook Feature Learning: a dictionary with a pursuit encoder.

    A row is approximated by a sparse sum of unit atoms, ``x ~ z W + b``, where
    ``z`` has at most ``k`` non-zeros and ``b`` is the mean row. Batched orthogonal
    matching pursuit finds ``z``; gradient descent with ``z`` held fixed learns
    ``W``. As any atom that aligns with some row is used and thus updated, few
    features die.

    Read more in the :ref:`User Guide <dictionaries>`.

    Parameters
    ----------
    n_components : int, default=None
        Number of atoms (the paper's M). None: ``8 * n_features``, or as many as
        ``init`` holds.
    k : int, default=None
        Most non-zeros of a code. None: a tenth of the features, at least 1, at most
        ``n_components``. Larger values count as ``n_components``, with a warning.
    atoms_per_step : int, default=5
        Atoms picked at once (the paper's L). There are
        ``ceil(k / atoms_per_step)`` steps (the paper's J), the last one smaller
        where ``k`` does not divide; 1 is matching pursuit.
    selection : {"positive", "absolute"}, default="positive"
        Pick the atoms with the largest correlation with the residual (the paper),
        or with the largest magnitude of it. Coefficients may be negative in
        either case.
    refit : bool or "every_step", default=False
        True: one joint least squares on the final support, in training and in
        :meth:`transform`; a smaller error at about twice the time. "every_step":
        after every step; with ``atoms_per_step=1`` this is orthogonal matching
        pursuit, the most exact and the slowest. :meth:`with_encoder` chooses
        another encoder for fitted atoms.
    reset_similarity : float, default=0.9
        Of two atoms with a larger cosine similarity, the one that fired less is
        redrawn uniformly from the unit sphere.
    reset_every : int, default=100
        Steps between resets. There is none in the last so many steps, in which a
        new atom would not have the time to learn.
    learning_rate : float, default=0.5
        Step along the gradient of each atom divided by its curvature, which makes
        it free of the data's scale, of ``k`` and of how often atoms fire; 1 moves
        an atom to its minimiser. Values between 0.1 and 1 differ little.
    batch_size : int or "auto", default="auto"
        Rows per step. "auto" takes a 16th of the rows, at least 256 and at most
        4096.
    max_iter : int, default=30
        Passes over the data, at most. The learning rate falls linearly to zero
        over them. With 0 the dictionary stays as ``init`` makes it: a baseline.
    tol : float or None, default=1e-3
        A pass that raises the explained variance by less counts as flat; after
        ``n_iter_no_change`` flat passes the learning rate falls to zero within as
        many more, and training ends. None trains for ``max_iter`` passes.
    n_iter_no_change : int, default=5
        See ``tol``.
    validation_fraction : float or None, default=None
        Share of the rows, rounded down, that :meth:`fit` holds out at random where
        they are five at least. Flat
        passes are then those that do not raise the explained variance of these rows,
        and the atoms of the best pass are kept. None: learn from all rows; longer
        training does not make this dictionary worse.
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
        Seed of the first atoms, of the order of the rows and of redrawn atoms. With an
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
        Mean of the rows seen. Subtracted before encoding, added after decoding.
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
        Rows that ``pre_bias_`` is the mean of: those of :meth:`fit` and of later
        calls of :meth:`partial_fit`.
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
    TopKSAE : The sparse autoencoder that this is compared with.
    ControlPCAWhitener : The preprocessing of the paper.
    Reconstructor : Gives the reconstruction inside a Pipeline.
    sklearn.decomposition.MiniBatchDictionaryLearning : L1-penalised relative.

    Notes
    -----
    The encoder is Algorithm 1 of [1]_. From the residual ``r(1) = x - b``, each
    step ``t`` picks the ``L`` atoms with the largest ``<W_m, r(t)>``, solves the
    least squares of ``r(t)`` on them for ``z(t)``, and sets
    ``r(t+1) = r(t) - z(t) W``; the code is ``sum_t z(t)``.

    The dictionary descends the gradient of the mean of ``||x - z W - b||^2 / 2``
    over a batch, each atom's divided by the mean of its ``z_m^2``. The paper leaves
    the optimiser open (learning rate 5e-5); on all data sets tried, this step beat
    Adam and needed no tuning. The paper learns ``b`` too; here it is the mean of the
    rows, because with codes held fixed its gradient does not vanish, and over a long
    training a learned ``b`` leaves the rows and the explained variance falls. Atoms
    keep unit norm, which the paper leaves open; it starts them at random, which leaves
    more dead features than samples.

    Two rows whose correlations tie to the last bit in float32 can get another
    support alone than in a batch; float64 settles it.

    References
    ----------
    .. [1] Donhauser, K. et al. "Towards scientific discovery with dictionary
       learning: extracting biological concepts from microscopy foundation models".
       ICML 2025. arXiv:2412.16247.

    Examples
    --------
    >>> from skdict import ICFL
    >>> from skdict.datasets import make_planted_dictionary
    >>> data = make_planted_dictionary(
    ...     2000, 16, n_components=24, n_active=2, random_state=0
    ... )
    >>> icfl = ICFL(n_components=24, k=2, random_state=0).fit(data.data)
    >>> codes = icfl.transform(data.data)
    >>> codes.shape, codes.nnz <= 2 * 2000
    ((2000, 24), True)
    >>> icfl.score(data.data) > 0.8
    True
    """

    _parameter_constraints: dict = {
        **FixedSparsity._parameter_constraints,
        "atoms_per_step": [Interval(Integral, 1, None, closed="left")],
        "selection": [StrOptions({"positive", "absolute"})],
        "refit": ["boolean", StrOptions({"every_step"})],
        "reset_similarity": [Interval(Real, 0, 1, closed="both")],
        "reset_every": [Interval(Integral, 1, None, closed="left")],
    }

    _model = PursuitDictionary

    def __init__(
        self,
        n_components=None,
        k=None,
        *,
        atoms_per_step=5,
        selection="positive",
        refit=False,
        reset_similarity=0.9,
        reset_every=100,
        learning_rate=0.5,
        batch_size="auto",
        max_iter=30,
        tol=1e-3,
        n_iter_no_change=5,
        validation_fraction=None,
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
        self.atoms_per_step = atoms_per_step
        self.selection = selection
        self.refit = refit
        self.reset_similarity = reset_similarity
        self.reset_every = reset_every
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

    def with_encoder(self, *, k=None, atoms_per_step=None, selection=None, refit=None):
        """Encode with another pursuit and the same atoms.

        Parameters
        ----------
        k : int, default=None
            Most non-zeros of a code, as in the constructor; it may be larger than in
            :meth:`fit`. None, here and below: unchanged.
        atoms_per_step : int, default=None
            Atoms picked at once; 1 is matching pursuit.
        selection : {"positive", "absolute"}, default=None
            How atoms are picked.
        refit : bool or "every_step", default=None
            Least squares on all picked atoms: once in the end, or after every step.

        Returns
        -------
        icfl : ICFL
            A fitted copy that shares the arrays of this one. ``feature_density_``,
            ``dead_features_`` and ``history_`` stay those of the training.

        Raises
        ------
        InvalidParameterError
            A ValueError: a value is out of its range.

        Notes
        -----
        ``clone`` of the copy is unfitted, as always. Where a search or a comparison
        clones its estimators, wrap the copy in
        :class:`sklearn.frozen.FrozenEstimator`.

        Examples
        --------
        Orthogonal matching pursuit on the atoms that batched pursuit has learned:

        >>> from skdict import ICFL
        >>> from skdict.datasets import make_planted_dictionary
        >>> X = make_planted_dictionary(2000, 16, random_state=0).data
        >>> icfl = ICFL(k=5, random_state=0).fit(X)
        >>> omp = icfl.with_encoder(
        ...     atoms_per_step=1, selection="absolute", refit="every_step"
        ... )
        >>> omp.score(X) > icfl.score(X)
        True
        """
        check_is_fitted(self)
        given = {
            "k": k,
            "atoms_per_step": atoms_per_step,
            "selection": selection,
            "refit": refit,
        }
        other = copy.copy(self).set_params(
            **{name: value for name, value in given.items() if value is not None}
        )
        other._validate_params()
        other._check_sparsity(len(self.components_))
        return other

    def _new_model(self, atoms, n_samples):
        return PursuitDictionary(
            atoms,
            self._n_active(*atoms.shape),
            atoms_per_step=self.atoms_per_step,
            selection=self.selection,
            refit=self.refit,
            reset_similarity=self.reset_similarity,
            reset_every=self.reset_every,
        )
