"""Callbacks that keep parts of a dictionary from learning."""

from __future__ import annotations

from numbers import Real
from typing import Any, TypeAlias

import torch.nn.functional as F
from skorch.callbacks import Callback
from torch import Tensor

# A DictionaryNet, whose module imports this one.
Net: TypeAlias = Any

# Atoms that are held are at most this far beyond their limit, because of rounding.
_ROUNDING = 1e-3


class FrozenAtoms(Callback):
    """Keeps the atoms where they start, or near.

    A dictionary whose atoms stay random is the baseline that shows what its encoder, or
    a small move of the atoms, achieves without learning where the features lie.

    Parameters
    ----------
    min_cosine : float, default=1.0
        Smallest cosine of an atom with what it was at the start, in (0, 1]. With 1,
        atoms do not move. Otherwise, an atom that a step has moved too far is turned
        back to the nearest direction inside the cone.

    See Also
    --------
    FrozenEncoder : Keeps the encoder of an autoencoder.
    skdict.evaluation.baseline_dictionaries : Makes baselines with both.

    Notes
    -----
    Pass it in ``callbacks=`` of a dictionary, with ``init="random"`` for a baseline. It
    serves all of them, also those whose atoms have no gradient, because it acts after
    each step: the atoms of K-SVD are put back, and its pursuit remains. What else a
    dictionary learns, such as its encoder and biases, is free. Atoms that a dictionary
    has redrawn are put back or turned back, too; ``resets`` in ``history_`` counts
    them nevertheless.

    The start is that of the ``fit``. In ``partial_fit`` it is that of the first call,
    as long as the callback is the same; a new callback takes the atoms of its first
    call. The frozen and the soft-frozen decoder are baselines of Korznikov et al. [1]_,
    the latter with a cosine of 0.8.

    References
    ----------
    .. [1] A. Korznikov et al. "Sanity checks for sparse autoencoders: do SAEs beat
       random baselines?" 2026. arXiv:2602.14111.

    Examples
    --------
    >>> import numpy as np
    >>> from skdict import TopKSAE
    >>> from skdict.training import FrozenAtoms
    >>> X = np.random.default_rng(0).normal(size=(500, 8))
    >>> options = {"init": "random", "random_state": 0}
    >>> start = TopKSAE(16, 2, max_iter=0, **options).fit(X).components_
    >>> frozen = TopKSAE(16, 2, callbacks=[FrozenAtoms()], **options).fit(X)
    >>> bool((frozen.components_ == start).all())
    True
    """

    start_: dict[str, Tensor]

    def __init__(self, min_cosine: float = 1.0) -> None:
        self.min_cosine = min_cosine

    def on_train_begin(self, net: Net, **kwargs: Any) -> None:
        value: Any = self.min_cosine
        is_number = isinstance(value, Real) and not isinstance(value, bool)
        if not (is_number and 0 < value <= 1):
            raise ValueError(
                f"min_cosine of FrozenAtoms must be in (0, 1], got {value!r}."
            )
        module = net.module_
        if not (net.clock.n_steps and self._is_of(module.atoms)):
            self.start_ = module.atoms_state()
        self.start_ = {name: x.to(module.atoms) for name, x in self.start_.items()}

    def on_batch_end(self, net: Net, training: bool = False, **kwargs: Any) -> None:
        if training:
            net.module_.hold_atoms_(self.start_, self.min_cosine)

    def _is_of(self, atoms: Tensor) -> bool:
        """Whether the start, if there is one, may be that of these atoms."""
        if self.min_cosine == 1 or not hasattr(self, "start_"):
            return False
        start = self.start_["atoms"]
        if start.shape != atoms.shape:
            return False
        cosines = F.cosine_similarity(start.to(atoms), atoms.detach())
        return bool((cosines > self.min_cosine - _ROUNDING).all())


class FrozenEncoder(Callback):
    """Keeps the weights of the encoder where they start.

    The atoms and the biases learn to make the best of latents that stay random.

    See Also
    --------
    FrozenAtoms : Keeps the atoms.
    skdict.evaluation.baseline_dictionaries : Makes baselines with both.

    Notes
    -----
    Pass it in ``callbacks=`` of a sparse autoencoder or a Transcoder, with
    ``init="random"`` for a baseline. Biases and thresholds are free, because
    they set how many latents are active. Dictionaries whose atoms are their encoder
    have nothing to keep, and ``fit`` raises a ValueError. This is a baseline of
    Korznikov et al. [1]_.

    References
    ----------
    .. [1] A. Korznikov et al. "Sanity checks for sparse autoencoders: do SAEs beat
       random baselines?" 2026. arXiv:2602.14111.

    Examples
    --------
    >>> import numpy as np
    >>> from skdict import TopKSAE
    >>> from skdict.training import FrozenEncoder
    >>> X = np.random.default_rng(0).normal(size=(500, 8))
    >>> options = {"init": "random", "random_state": 0}
    >>> start = TopKSAE(16, 2, max_iter=0, **options).fit(X).encoder_components_
    >>> frozen = TopKSAE(16, 2, callbacks=[FrozenEncoder()], **options).fit(X)
    >>> bool(np.allclose(frozen.encoder_components_, start))
    True
    """

    start_: Tensor

    def on_train_begin(self, net: Net, **kwargs: Any) -> None:
        if not hasattr(net.module_, "encoder"):
            raise ValueError(
                f"{type(net.module_).__name__} has no encoder beside its atoms, so "
                "that FrozenEncoder has nothing to keep: use FrozenAtoms."
            )
        self.start_ = net.module_.encoder.detach().clone()
        net.module_.frozen_encoder = True

    def on_batch_end(self, net: Net, training: bool = False, **kwargs: Any) -> None:
        if training:
            net.module_.encoder.detach().copy_(self.start_)
