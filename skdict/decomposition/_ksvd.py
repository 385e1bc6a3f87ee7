"""K-SVD and the method of optimal directions."""

from __future__ import annotations

from numbers import Real
from typing import Literal

from torch import Tensor

from skdict._utils.constraints import Interval
from skdict._utils.sklearn_private import StrOptions
from skdict._utils.types import ArrayLike, Callbacks, Seed
from skdict.decomposition._base import PURSUIT, FixedSparsity
from skdict.decomposition._shared_docs import documented
from skdict.models import KSVDDictionary


@documented
class KSVD(FixedSparsity):
    """Pursuit, then atoms in closed form: K-SVD or the method of optimal directions.

    The classical way to learn a dictionary: with the supports fixed, every atom is set
    to what is best for the rows that use it. A step needs no learning rate; it pays
    where all rows fit into one batch.

    Read more in the :ref:`User Guide <dictionaries>`.

    Parameters
    ----------
    n_components : shared
    k : shared
    update : {"ksvd", "mod"}, default="ksvd"
        "ksvd" updates one atom after the other, with its coefficients, by one power
        iteration (approximate K-SVD). "mod" solves the least squares of all atoms for
        fixed codes.
    atoms_per_step : int, default=1
        Atoms that the pursuit picks at once.
    selection : {"positive", "absolute"}, default="absolute"
        Pick atoms by signed correlation or by its magnitude.
    refit : bool or "every_step", default="every_step"
        When coefficients are solved anew on all picked atoms. The defaults of these
        three are orthogonal matching pursuit.
    reset_similarity : float, default=0.99
        Of two atoms with a larger cosine similarity, the one that fired less is
        redrawn uniformly from the unit sphere.
    reset_every : int, default=5
        Steps between resets.
    learning_rate : float, default=1.0
        How far atoms move from where they are to the closed form: all the way at 1, for
        batches that hold all rows; smaller values let batches average.
    batch_size : int or "auto", default="auto"
        Number of rows per step. "auto" takes all rows.
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
    pre_bias_ : ndarray of shape (n_features,)
        Mean of the rows seen. Subtracted before encoding, added after decoding.
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
    ICFL : Steps along the gradient instead, in batches.

    Notes
    -----
    K-SVD [1]_ replaces an atom and its coefficients by the best rank-one approximation
    of what the other atoms leave; one power iteration from the atom as it was is the
    approximation of [2]_. The method of optimal directions [3]_ solves ``min_W ||X - b
    - Z W||^2`` and scales the atoms to unit norm. ``b`` is the mean of the rows. With
    batches smaller than the data, atoms are the best ones for the last batch, and rare
    atoms suffer.

    References
    ----------
    .. [1] Aharon, M., Elad, M. and Bruckstein, A. "K-SVD: An algorithm for designing
       overcomplete dictionaries for sparse representation". IEEE Transactions on Signal
       Processing 54, 2006.

    .. [2] Rubinstein, R., Zibulevsky, M. and Elad, M. "Efficient implementation of the
       K-SVD algorithm using batch orthogonal matching pursuit". 2008.

    .. [3] Engan, K., Aase, S. O. and Husoy, J. H. "Method of optimal directions for
       frame design". ICASSP 1999.

    Examples
    --------
    >>> from skdict import KSVD
    >>> from skdict.datasets import make_planted_dictionary
    >>> X = make_planted_dictionary(2000, 16, random_state=0).data
    >>> ksvd = KSVD(n_components=64, k=4, random_state=0).fit(X)
    >>> ksvd.score(X) > 0.8
    True
    """

    _model = KSVDDictionary
    _parameter_constraints: dict = {
        **FixedSparsity._parameter_constraints,
        **PURSUIT,
        "learning_rate": [Interval(Real, 0, 1, closed="right")],
        "update": [StrOptions({"ksvd", "mod"})],
    }
    del _parameter_constraints["warmup_steps"]  # nothing descends a gradient

    def __init__(
        self,
        n_components: int | None = None,
        k: int | None = None,
        *,
        update: Literal["ksvd", "mod"] = "ksvd",
        atoms_per_step: int = 1,
        selection: Literal["positive", "absolute"] = "absolute",
        refit: bool | Literal["every_step"] = "every_step",
        reset_similarity: float = 0.99,
        reset_every: int = 5,
        learning_rate: float = 1.0,
        batch_size: int | Literal["auto"] = "auto",
        max_iter: int = 30,
        tol: float | None = 1e-3,
        n_iter_no_change: int = 5,
        validation_fraction: float | None = None,
        init: Literal["random", "samples"] | ArrayLike = "samples",
        warm_start: bool = False,
        sparse_output: bool = True,
        device: str = "auto",
        random_state: Seed = None,
        verbose: int = 0,
        callbacks: Callbacks = None,
    ) -> None:
        self.n_components = n_components
        self.k = k
        self.update = update
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

    def _batch_size(self, n_samples: int, n_epochs: int) -> int:
        return n_samples if self.batch_size == "auto" else self.batch_size

    def _new_model(self, atoms: Tensor, n_samples: int) -> KSVDDictionary:
        return KSVDDictionary(
            atoms,
            self._n_active(*atoms.shape),
            update=self.update,
            step=self.learning_rate,
            atoms_per_step=self.atoms_per_step,
            selection=self.selection,
            refit=self.refit,
            reset_similarity=self.reset_similarity,
            reset_every=self.reset_every,
        )
