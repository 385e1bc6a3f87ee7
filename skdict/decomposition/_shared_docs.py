"""What the docstrings of all dictionary estimators have in common."""

from skdict._utils.docs import shares_docs

PARAMETERS = {
    "n_components": """int, default={default}
    Number of atoms (the papers' M). None: ``8 * n_features``, or as many as
    ``init`` holds.""",
    "k": """int, default={default}
    Most non-zeros of a code. None: a tenth of the features, at least 1, at most
    ``n_components``. Larger values count as ``n_components``, with a warning.""",
    "batch_size": """int or "auto", default={default}
    Rows per step. "auto" takes a 16th of the rows, at least 256 and at most
    4096.""",
    "max_iter": """int, default={default}
    Most epochs, that is passes over the data. The learning rate falls linearly to
    zero over them. With 0 the dictionary stays as ``init`` makes it: a baseline.""",
    "tol": """float or None, default={default}
    An epoch that raises the explained variance by less counts as flat. After
    ``n_iter_no_change`` flat epochs the learning rate falls to zero within the same
    number of epochs, and training ends. None trains for ``max_iter`` epochs.""",
    "n_iter_no_change": """int, default={default}
    See ``tol``.""",
    "validation_fraction": """float or None, default={default}
    Fraction of the rows that :meth:`fit` holds out at random; none where that are
    fewer than five. Flat epochs are those that do not raise the explained variance
    of these rows, and the parameters of the best epoch are kept. None: learn from
    all rows, and judge epochs by them.""",
    "init": """{"random", "samples"} or array-like, default={default}
    First atoms: drawn uniformly from the unit sphere, rows of the data less
    their mean (random ones where there are too few rows), or given, of shape
    (n_components, n_features). They are scaled to unit norm.""",
    "warm_start": """bool, default={default}
    Start :meth:`fit` from the last dictionary; ``init`` then counts only the
    first time.""",
    "sparse_output": """bool, default={default}
    Codes as a CSR matrix, or as a dense array (needed by ``set_output`` and by
    array-API dispatch).""",
    "device": """str, default={default}
    Where torch computes: "auto" takes CUDA, then MPS, then the CPU. Any name
    that torch knows, such as "cuda:1", is accepted.""",
    "random_state": """int, RandomState instance or None, default={default}
    Seed of the first atoms, of the order of the rows and of redrawn atoms. With an
    int, two fits on the same machine with the same number of threads agree to
    the bit on the CPU.""",
    "verbose": """int, default={default}
    Above zero, a progress bar with loss, explained variance and dead fraction.""",
    "callbacks": """list of callables and skorch callbacks, default={default}
    A callable gets the entry of ``history_`` of every epoch, and ends the training
    by returning True. Callbacks of skorch see the net, whose rows are divided by
    their spread.""",
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
    Fraction of the samples on which each feature fired, over the last epoch of
    training, in which the dictionary still moved.""",
    "dead_features_": """ndarray of bool of shape (n_components,)
    Features whose density is below 1e-5.""",
    "n_iter_": """int
    Epochs made; with :meth:`partial_fit`, its calls.""",
    "n_steps_": """int
    Optimisation steps made.""",
    "n_samples_seen_": """int
    Rows of :meth:`fit` and of later calls of :meth:`partial_fit`.""",
    "history_": """list of dict
    One for each epoch: ``epoch``, ``loss`` (mean squared error of a row),
    ``explained_variance``, ``dead_fraction``, ``resets`` and ``seconds``, as the
    rows went by; ``learning_rate`` of the next step; with ``validation_fraction``
    also ``validation_explained_variance``, behind the epoch.""",
    "n_features_in_": """int
    Number of features seen during :meth:`fit`.""",
    "feature_names_in_": """ndarray of shape (n_features_in_,)
    Names of the features seen during :meth:`fit`, where all are strings.""",
}

documented = shares_docs({**PARAMETERS, **ATTRIBUTES})
