"""Dictionaries to the files of other libraries."""

from __future__ import annotations

import json
import os
import tempfile
from functools import reduce
from pathlib import Path
from typing import Any, Literal

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skdict._utils.checks import as_numpy
from skdict._utils.files import check_destination, write_file
from skdict._utils.steps import steps_of, unfrozen
from skdict._utils.tensors import safetensors_parts
from skdict.decomposition import (
    ICFL,
    SAE,
    ArchetypalSAE,
    BatchTopKSAE,
    GatedSAE,
    JumpReLUSAE,
    MatchingPursuitSAE,
    MatryoshkaSAE,
    TopKSAE,
)
from skdict.interchange import _saelens, _sparsify
from skdict.interchange._folding import Affine, affine, dtype_for, folded
from skdict.interchange._parts import Activation, Parts, checked
from skdict.interchange._pursuit import check_balance

__all__ = ["write_dictionary"]

_FORMATS = {"saelens": _saelens, "sparsify": _sparsify}

_ACTIVATIONS: dict[type, Activation] = {
    SAE: "relu",
    TopKSAE: "topk",
    ArchetypalSAE: "topk",
    BatchTopKSAE: "batchtopk",
    MatryoshkaSAE: "batchtopk",
    JumpReLUSAE: "jump",
    GatedSAE: "gated",
    MatchingPursuitSAE: "pursuit",
    ICFL: "pursuit",
}


def write_dictionary(
    estimator: Any,
    path: str | os.PathLike,
    format: Literal["saelens", "sparsify"] = "saelens",
) -> None:
    """Write a dictionary for another library.

    The other library computes the same codes and the same reconstruction, up to
    rounding. What its files do not hold is refused.

    Read more in the :ref:`User Guide <interchange>`.

    Parameters
    ----------
    estimator : estimator object
        A fitted dictionary, or a fitted Pipeline that ends in one. The steps before it
        are folded into the file, so that it takes the rows as the pipeline does:
        :class:`~skdict.ControlPCAWhitener`,
        :class:`~sklearn.preprocessing.StandardScaler` and
        :class:`~sklearn.decomposition.PCA`.
    path : str or path-like
        The folder; it is made where there is none. Files of an earlier dictionary in
        it, of either format, are replaced.
    format : {"saelens", "sparsify"}, default="saelens"
        The library. sparsify has TopK dictionaries only.

    Raises
    ------
    ValueError
        If the format does not hold such a dictionary, or a step cannot be folded.
        Nothing is written.
    OSError
        If the files cannot be written. Those of an earlier dictionary are still there.

    See Also
    --------
    read_dictionary : The other way.
    skdict.save : Keeps everything, for skdict.

    Notes
    -----
    ==========================================  =================
    Estimator                                   SAELens
    ==========================================  =================
    SAE                                         standard
    TopKSAE, ArchetypalSAE                      topk
    TopKSAE with ``selection="absolute"``       abstopk
    JumpReLUSAE, BatchTopKSAE, MatryoshkaSAE    jumprelu
    GatedSAE                                    gated
    MatchingPursuitSAE, ICFL                    matching_pursuit
    ==========================================  =================

    An :class:`~skdict.ICFL` must have ``atoms_per_step=1``, ``selection="positive"``
    and ``refit=False``. Where no atom correlates positively with a residual, skdict
    takes the least negative one and SAELens none. A pursuit is therefore written only
    if positive multiples of its atoms add up to zero: then this never happens.

    Numbers have the dtype of ``components_``; they are float64 where the steps before
    stretch some directions over a thousand times as much as others. Atoms of a folded
    pipeline have other norms than 1, so :func:`read_dictionary` refuses it if it is a
    TopK dictionary.

    A row-wise step, such as :class:`~sklearn.preprocessing.Normalizer`, cannot be
    folded: apply it to the rows that the other library gets.

    Examples
    --------
    >>> import json, tempfile
    >>> from pathlib import Path
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skdict import TopKSAE
    >>> from skdict.datasets import make_planted_dictionary
    >>> from skdict.interchange import write_dictionary
    >>> X = make_planted_dictionary(500, 16, random_state=0).data
    >>> sae = TopKSAE(32, k=4, max_iter=3, random_state=0)
    >>> pipeline = make_pipeline(StandardScaler(), sae).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_dictionary(pipeline, folder)
    ...     json.loads((Path(folder) / "cfg.json").read_text())["architecture"]
    'topk'
    """
    if format not in _FORMATS:
        raise ValueError(
            f"format={format!r} cannot be written: it must be one of "
            f"{', '.join(_FORMATS)}."
        )
    *before, last = steps_of(estimator)
    dictionary = unfrozen(last)
    parts = checked(_parts_of(dictionary))
    if parts.activation == "pursuit" and format == "saelens":
        check_balance(parts.decoder)
    dtype = as_numpy(dictionary.components_).dtype
    if before:
        for step in before:
            check_is_fitted(unfrozen(step))
        step = reduce(Affine.then, map(affine, before))
        dtype = dtype_for(step, dtype)
        parts = folded(parts, step, dtype)
    for name, value in vars(parts).items():
        if isinstance(value, np.ndarray):
            with np.errstate(over="ignore"):
                setattr(parts, name, np.asarray(value, dtype))
    checked(parts)
    contents = list(_FORMATS[format].contents(parts, dtype))
    _write(Path(path), contents)


def _parts_of(estimator: Any) -> Parts:
    """What a fitted dictionary computes."""
    name = type(estimator).__name__
    if type(estimator) not in _ACTIVATIONS:
        names = ", ".join(cls.__name__ for cls in _ACTIVATIONS)
        raise ValueError(
            f"A {name} cannot be written: the formats hold a fitted {names}, or a "
            "Pipeline that ends in one."
        )
    check_is_fitted(estimator)
    activation = _ACTIVATIONS[type(estimator)]
    arrays: dict[str, Any] = {
        part: as_numpy(getattr(estimator, attribute))
        for part, attribute in {
            "decoder": "components_",
            "bias": "pre_bias_",
            "encoder": "encoder_components_",
            "encoder_bias": "encoder_bias_",
            "threshold": "threshold_",
            "log_gain": "log_gain_",
            "magnitude_bias": "magnitude_bias_",
            "density": "feature_density_",
        }.items()
        if hasattr(estimator, attribute)
    }
    if activation == "topk" and getattr(estimator, "selection", "") == "absolute":
        activation = "abstopk"
    k = None
    if activation in ("topk", "abstopk", "pursuit"):
        k = estimator._n_active(*estimator.components_.shape)
    if isinstance(estimator, ICFL):
        _check_icfl(estimator)
    return Parts(activation, k=k, **arrays)


def _check_icfl(estimator: ICFL) -> None:
    only = {"atoms_per_step": 1, "selection": "positive", "refit": False}
    for name, value in only.items():
        if getattr(estimator, name) != value:
            raise ValueError(
                f"An ICFL with {name}={getattr(estimator, name)!r} cannot be written: "
                "no other library has its encoder. With atoms_per_step=1, "
                "selection='positive' and refit=False it is matching pursuit."
            )


def _write(folder: Path, contents: list[tuple[str, Any]]) -> None:
    """Write the files, or leave the folder as it was.

    They are complete beside the earlier ones before these are removed. The settings
    come last, because no library reads the other files without them.
    """
    names = [name for name, _ in contents]
    # Weights of the other format would be taken to belong to the new settings.
    earlier = [_saelens.SETTINGS, _saelens.DENSITIES, _saelens.WEIGHTS]
    earlier.append(_sparsify.WEIGHTS)
    folder.mkdir(parents=True, exist_ok=True)
    for name in {*names, *earlier}:
        check_destination(folder / name)
    with tempfile.TemporaryDirectory(prefix=".skdict-", dir=folder) as new:
        for name, content in contents:
            if name.endswith(".json"):
                parts = iter([json.dumps(content, indent=1).encode()])
            else:
                parts = safetensors_parts(content)
            write_file(Path(new, name), parts)
        for name in earlier:
            (folder / name).unlink(missing_ok=True)
        for name in names:
            os.replace(Path(new, name), folder / name)
