"""Dictionaries from the files of other libraries."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from skdict._utils.tensors import open_file
from skdict.interchange import (
    _dictionary_learning,
    _overcomplete,
    _saelens,
    _saev,
    _sparsify,
)
from skdict.interchange._files import read_torch
from skdict.interchange._parts import estimator_from

__all__ = ["read_dictionary"]

_FORMATS = ("saelens", "dictionary_learning", "sparsify", "saev", "overcomplete")
Format = Literal[
    "auto", "saelens", "dictionary_learning", "sparsify", "saev", "overcomplete"
]


def read_dictionary(
    path: str | os.PathLike, format: Format = "auto", *, estimator: Any = None
) -> Any:
    """Read a dictionary that another library trained.

    The fitted estimator computes the codes and the reconstruction that the dictionary
    has in its own library, up to rounding. What skdict does not compute is refused.

    Read more in the :ref:`User Guide <interchange>`.

    Parameters
    ----------
    path : str or path-like
        The folder of the dictionary, or the file with its weights.
    format : {"auto", "saelens", "dictionary_learning", "sparsify", "saev", \
"overcomplete"}, default="auto"
        The library that wrote it. "auto" tells by the names of the files and, for a
        file by itself, by what is in it.
    estimator : estimator object, default=None
        Says what a state dict of overcomplete does not: ``SAE()`` for its SAE, and
        ``TopKSAE(k=top_k)`` for its TopKSAE. The other formats do not need it.

    Returns
    -------
    estimator : estimator object
        A :class:`~skdict.SAE`, :class:`~skdict.TopKSAE`, :class:`~skdict.BatchTopKSAE`,
        :class:`~skdict.MatryoshkaSAE`, :class:`~skdict.JumpReLUSAE`,
        :class:`~skdict.GatedSAE` or :class:`~skdict.MatchingPursuitSAE`. It has no
        attribute about its training, such as ``history_``. It has
        ``feature_density_`` and ``dead_features_`` only where the file tells them.

    Raises
    ------
    ValueError
        If the file is damaged or in another format, if it could only be read by running
        code from it (a pickle), or if no estimator computes the same.
    OSError
        If a file is missing or cannot be read.

    See Also
    --------
    write_dictionary : The other way.
    skdict.load : For files of :func:`skdict.save`.

    Notes
    -----
    Atoms have unit norm. Where they have another one in the file, the encoder, its bias
    and the thresholds are multiplied by it, and so are the codes. That may change which
    k latents are the largest, so a TopK dictionary with atoms of different norms is
    refused. A BatchTopK dictionary becomes a :class:`~skdict.JumpReLUSAE`, which has a
    threshold for each latent. Norms that differ from 1 by less than 0.005, as those of
    atoms in half precision do, are left as they are.

    Where the library does not subtract the decoder's bias from the rows, the encoder's
    bias makes up for it.

    Tensors of half precision become float32. No code from the file is run, and sizes,
    shapes and dtypes are checked against the file before the numbers are read.

    Examples
    --------
    >>> import tempfile
    >>> from skdict import TopKSAE
    >>> from skdict.datasets import make_planted_dictionary
    >>> from skdict.interchange import read_dictionary, write_dictionary
    >>> X = make_planted_dictionary(500, 16, random_state=0).data
    >>> sae = TopKSAE(32, k=4, max_iter=3, random_state=0).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_dictionary(sae, folder, format="sparsify")
    ...     read_dictionary(folder)
    TopKSAE(k=4, n_components=32)
    """
    place = Path(path)
    if format == "auto":
        format = _format_of(place)
    if format not in _FORMATS:
        raise ValueError(
            f"format={format!r} is not known: it must be auto or one of "
            f"{', '.join(_FORMATS)}."
        )
    if estimator is not None and format != "overcomplete":
        raise ValueError(
            f"The file was taken for one of {format}, which tells its class and k by "
            "itself. Leave estimator out, or pass format='overcomplete'."
        )
    try:
        if format == "saelens":
            parts = _saelens.read(_folder(place))
        elif format == "sparsify":
            parts = _sparsify.read(_folder(place))
        elif format == "dictionary_learning":
            weights = _file(place, _dictionary_learning.WEIGHTS)
            parts = _dictionary_learning.read(weights)
        elif format == "saev":
            parts = _saev.read(_file(place, _saev.WEIGHTS))
        else:
            parts = _overcomplete.read(place, estimator)
        return estimator_from(parts)
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)!r} is refused: {error}") from error


def _folder(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def _file(path: Path, name: str) -> Path:
    """The file with the weights, where the user named its folder or the file itself."""
    if not path.is_dir():
        return path
    below = path / "checkpoint" / name
    return below if below.exists() and not (path / name).exists() else path / name


def _format_of(path: Path) -> Format:
    """The format, by the names of the files or by the beginning of the one file."""
    folder = _folder(path)
    name = None if path.is_dir() else path.name
    both = (_saelens.WEIGHTS, _sparsify.WEIGHTS)
    if all((folder / weights).exists() for weights in both):
        raise ValueError(
            f"{os.fspath(folder)!r} has {' and '.join(both)}, but one "
            f"{_saelens.SETTINGS}: say by format to which of them it belongs, or "
            "remove the other."
        )
    if name in (None, _saelens.WEIGHTS, _saelens.SETTINGS) and (
        (folder / _saelens.WEIGHTS).exists()
    ):
        return "saelens"
    if name in (None, _sparsify.WEIGHTS, _sparsify.SETTINGS) and (
        (folder / _sparsify.WEIGHTS).exists()
    ):
        return "sparsify"
    if name is None:
        if (folder / _dictionary_learning.WEIGHTS).exists():
            return "dictionary_learning"
        if _file(folder, _saev.WEIGHTS).exists():
            return "saev"
        raise ValueError(
            f"{os.fspath(path)!r} has no file in which a known library keeps weights: "
            f"{_saelens.WEIGHTS}, {_sparsify.WEIGHTS}, {_dictionary_learning.WEIGHTS} "
            f"or {_saev.WEIGHTS}."
        )
    try:
        with open_file(path) as file:
            if file.read(1) == b"{":
                return "saev"
        if any(tensor.startswith(_overcomplete.MARK) for tensor in read_torch(path)):
            return "overcomplete"
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)!r} is refused: {error}") from error
    return "dictionary_learning"
