"""What the docstrings of all dictionary estimators have in common."""

from skdict._utils.docs import shares_docs

PARAMETERS = {
    "n_components": """int, default={default}
    Number of atoms (the papers' M). None: ``8 * n_features``, or as many as
    ``init`` holds.""",
    "k": """int, default={default}
    Largest number of non-zeros of a code. None: a tenth of the features, at least 1,
    at most ``n_components``. Larger values count as ``n_components``, with a
    warning.""",
    "auxiliary_weight": """float, default={default}
    Weight of the auxiliary loss, in which the ``k`` strongest dead latents of a row
    rebuild the residual. It is their squared error relative to the squared
    residual; the main loss is the squared error of the reconstruction relative to
    the variance of the rows. 0 leaves it out.""",
    "dead_after": """float, default={default}
    Number of epochs without firing after which a latent counts as dead for the
    auxiliary loss. A number of rows would not suit tables of all sizes. A call of
    :meth:`partial_fit` is an epoch.""",
    "training_factor": """float, default={default}
    :meth:`fit` lets this many times ``k`` latents be active while it learns, but no
    more than half of all and no fewer than one; in the end there are ``k``. Above 1,
    latents agree better with single features that outnumber them; where they do not,
    fewer may be found. :meth:`partial_fit` learns with ``k``.""",
    "warmup_steps": """int, default={default}
    Over this many first steps, the learning rate is multiplied by a factor that rises
    linearly from 0 to 1. The steps of earlier calls of :meth:`partial_fit` count.""",
    "batch_size": """int or "auto", default={default}
    Number of rows per step. "auto" takes a 16th of the rows, and in :meth:`fit` fewer
    where ``max_iter`` epochs would otherwise be less than 1600 steps. It is at least
    256 and at most 4096.""",
    "batch_size (16th)": """int or "auto", default={default}
    Number of rows per step. "auto" takes a 16th of the rows, at least 256 and at most
    4096.""",
    "max_iter": """int, default={default}
    Largest number of epochs, that is passes over the data. The learning rate falls
    linearly to zero over them. With 0 the dictionary stays as ``init`` makes it, which
    is a baseline.""",
    "max_iter (constant)": """int, default={default}
    Largest number of epochs, that is passes over the data. The learning rate falls
    linearly to zero: over the last fifth of them if rows are held out and training
    aims at ``k``, otherwise over all of them. With 0 the dictionary stays as ``init``
    makes it, which is a baseline.""",
    "tol": """float or None, default={default}
    An epoch is flat if it raises the explained variance by no more than this. After
    ``n_iter_no_change`` flat epochs the learning rate falls to zero within the same
    number of epochs, and training ends. None trains for ``max_iter`` epochs.""",
    "tol (judged)": """float, "auto" or None, default={default}
    An epoch is flat if it raises the explained variance of the held-out rows by no more
    than this. After ``n_iter_no_change`` flat epochs the learning rate falls to zero
    within the same number of epochs, and training ends. None trains for ``max_iter``
    epochs. "auto" is 1e-3 with ``k`` where rows are held out, and None otherwise.""",
    "n_iter_no_change": """int, default={default}
    Number of flat epochs after which training winds down; see ``tol``.""",
    "validation_fraction": """float or None, default={default}
    Fraction of the rows that :meth:`fit` holds out at random. If that makes fewer than
    five rows, none are held out. Epochs are judged by the explained variance of the
    held-out rows, and the parameters of the best epoch are kept. None: learn from all
    rows and judge epochs by them.""",
    "validation_fraction (judged)": """float or None, default={default}
    Fraction of the rows that :meth:`fit` holds out at random. With ``k``, epochs are
    judged and active features counted there, because rows that are learned from
    activate fewer. Nothing is held out where that would be fewer than five rows. None:
    active features are counted in all rows.""",
    "init": """{"random", "samples"} or array-like, default={default}
    First atoms. "random": drawn uniformly from the unit sphere. "samples": rows of the
    data minus their mean, and random atoms where rows are too few. An array of shape
    (n_components, n_features): the atoms themselves. All are scaled to unit norm.""",
    "warm_start": """bool, default={default}
    Start :meth:`fit` from the dictionary of the last call. ``init`` then counts in the
    first call only.""",
    "sparse_output": """bool, default={default}
    Whether codes are CSR. False gives dense arrays, which ``set_output`` and array-API
    dispatch need.""",
    "device": """str, default={default}
    Where torch computes: "auto" takes CUDA, then MPS, then the CPU. Any name
    that torch knows, such as "cuda:1", is accepted.""",
    "autocast": """bool, default={default}
    Choose latents by products in bfloat16, which an accelerator computes several times
    faster. Their values, thresholds, norms and sums stay float32, so codes differ only
    where two latents are nearly equal. It has an effect on float32 rows only; the codes
    of float64 rows stay exact.""",
    "random_state": """int, RandomState instance or None, default={default}
    Seed of the first atoms, of the order of the rows and of redrawn atoms. With an
    int, two fits on the same machine with the same number of threads agree to
    the bit on the CPU.""",
    "verbose": """int, default={default}
    Above zero, show a progress bar with loss, explained variance and dead fraction.""",
    "callbacks": """list of callables and skorch callbacks, default={default}
    A callable is called after each epoch with its entry of ``history_``, and ends the
    training by returning True. Callbacks of skorch see the net, whose rows are divided
    by their spread.""",
}

ATTRIBUTES = {
    "components_": """ndarray of shape (n_components, n_features)
    The atoms (feature directions), unit rows.""",
    "pre_bias_": """ndarray of shape (n_features,)
    Subtracted before encoding, added after decoding.""",
    "encoder_components_": """ndarray of shape (n_components, n_features)
    The encoder's directions.""",
    "encoder_bias_": """ndarray of shape (n_components,)
    The encoder's offsets.""",
    "feature_density_": """ndarray of shape (n_components,)
    Fraction of the samples on which each feature fired. It is counted during the last
    epoch, while the dictionary still moves, or, where the parameters of the best epoch
    are kept, with these.""",
    "dead_features_": """ndarray of bool of shape (n_components,)
    Whether the density of each feature is below 1e-5.""",
    "n_iter_": """int
    Number of epochs; a call of :meth:`partial_fit` is one.""",
    "n_steps_": """int
    Number of optimisation steps.""",
    "n_samples_seen_": """int
    Number of rows of :meth:`fit` and of later calls of :meth:`partial_fit`.""",
    "history_": """list of dict
    One record for each epoch, with its number as ``epoch``. ``loss`` (mean squared
    error of a row), ``explained_variance``, ``dead_fraction``, ``resets`` and
    ``seconds`` are measured during the epoch, while the dictionary moves.
    ``learning_rate`` is that of the next step. Where rows are held out,
    ``validation_explained_variance`` is measured on them after the epoch.""",
    "n_features_in_": """int
    Number of features seen during :meth:`fit`.""",
    "feature_names_in_": """ndarray of shape (n_features_in_,)
    Names of the features seen during :meth:`fit`, where all are strings.""",
}

documented = shares_docs({**PARAMETERS, **ATTRIBUTES})
