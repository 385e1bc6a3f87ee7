"""Estimators in files that hold no code."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

import skdict.concepts as concepts
import skdict.decomposition as decomposition
import skdict.feature_extraction as feature_extraction
import skdict.preprocessing as preprocessing
from skdict._utils.archive import check_archive, unmap_arrays
from skdict._utils.files import write_file
from skdict._utils.fitted import check_fitted

# skops is imported inside the functions, because it imports all of scikit-learn.

__all__ = ["load", "save"]


def _trusted_types() -> list[str]:
    """Names of this library's public estimators: what is trusted beyond skops's own."""
    return sorted(
        _type_name(item)
        for package in (concepts, decomposition, feature_extraction, preprocessing)
        for item in (getattr(package, name) for name in package.__all__)
        if isinstance(item, type) and issubclass(item, BaseEstimator)
    )


def _type_name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def save(estimator: BaseEstimator, path: str | os.PathLike) -> None:
    """Save an estimator, fitted or not, to a file without pickle.

    The file is a skops archive: arrays and attributes, no code. It is written
    beside its destination and renamed once it is complete on the disk, so a crash
    leaves either the old file or the new one. What a killed process left beside it
    is removed by the next `save` to the same name.

    Parameters
    ----------
    estimator : estimator object
        One of this library's estimators, one of scikit-learn's, or a Pipeline of
        both.

    path : str or path-like
        The file; an existing one is replaced and keeps its permissions. A symbolic
        link stays, and the file behind it is replaced. The customary suffix is
        ".skops".

    Raises
    ------
    TypeError
        If `estimator` is no estimator, or if it holds anything but this library's
        public estimators and what skops trusts by default: most of scikit-learn's
        estimators, numpy arrays and random generators, and Python's plain types. The
        message names the types, and nothing is written.
    ValueError
        If the parameters or the fitted attributes of one of this library's estimators
        are not valid, for instance after a change by hand. :func:`load` would refuse
        them, and nothing is written.
    OSError
        If the file cannot be written: its folder is missing, `path` names a folder,
        a device or a read-only file, or the disk is full.

    See Also
    --------
    load : Load the file.

    Notes
    -----
    Arrays that are mapped from a file are saved as plain arrays.

    Among the things that skops does not trust, and this function refuses, are functions
    (in a `FunctionTransformer` or as callbacks), sparse matrices, torch objects (the
    model of a :class:`~skdict.TokenExtractor`, or a `torch.device`: give its name
    instead), scikit-learn's trees and forests, and a fitted `GridSearchCV`: save its
    `best_estimator_`. Nor can skops write an estimator on which `set_fit_request` or
    the like was called.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from sklearn.decomposition import TruncatedSVD
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import Normalizer
    >>> from skdict import load, save
    >>> X = np.random.default_rng(0).normal(size=(20, 4))
    >>> pipeline = make_pipeline(Normalizer(), TruncatedSVD(random_state=0)).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "pipeline.skops"
    ...     save(pipeline, path)
    ...     restored = load(path)
    >>> np.array_equal(restored.transform(X), pipeline.transform(X))
    True
    """
    import skops.io

    if not isinstance(estimator, BaseEstimator):
        raise TypeError(
            "save needs a scikit-learn estimator, an instance, got "
            f"{estimator if isinstance(estimator, type) else type(estimator)}."
        )
    name = type(estimator).__name__
    try:
        data = skops.io.dumps(estimator)
    except Exception as error:
        places = ", ".join(_unsupported(estimator, name)) or f"{name}: {error}"
        raise TypeError(
            f"{name} cannot be saved, because skops cannot write {places}."
        ) from error
    data = unmap_arrays(data)
    untrusted = set(skops.io.get_untrusted_types(data=data)) - set(_trusted_types())
    if untrusted:
        is_search = hasattr(estimator, "best_estimator_")
        instead = " Save its best_estimator_." if is_search else ""
        raise TypeError(
            f"{name} cannot be saved, because load would refuse these types: "
            f"{', '.join(sorted(untrusted))}.{instead}"
        )
    try:
        check_archive(io.BytesIO(data))
        _check_parts(estimator)
    except ValueError as error:
        raise ValueError(
            f"{name} cannot be saved, because load would refuse it: {error}"
        ) from error
    write_file(path, [data])


def _unsupported(value: Any, place: str) -> list[str]:
    """List the values that skops cannot write, as "place (type)"."""
    import skops.io

    parts: Iterable[tuple[str, Any]]
    if isinstance(value, BaseEstimator):
        parts = ((f"{place}.{name}", part) for name, part in vars(value).items())
    elif isinstance(value, dict):
        parts = ((f"{place}[{key!r}]", part) for key, part in value.items())
    elif isinstance(value, list | tuple):
        parts = ((f"{place}[{i}]", part) for i, part in enumerate(value))
    else:
        parts = ()
    try:
        skops.io.dumps(value)
    except Exception:
        found = [line for name, part in parts for line in _unsupported(part, name)]
        return found or [f"{place} ({_type_name(type(value))})"]
    return []


def load(path: str | os.PathLike) -> BaseEstimator:
    """Load an estimator from a file that :func:`save` wrote.

    No code from the file is run. The file is checked before any of its objects is made.
    It is refused if it names a type other than this library's public estimators and the
    types that skops trusts by default, or if reading it would take more work than its
    size suggests. Then the attributes of this library's estimators are checked against
    each other: whatever the file holds, using them gives a result or a ValueError.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    estimator : estimator object
        The estimator, as it was saved.

    Raises
    ------
    TypeError
        If the file needs a type that is not trusted; the types are named.
    ValueError
        If the file is damaged, is no file of :func:`save`, holds no estimator, or
        holds one whose parameters or attributes are not valid.
    OSError
        If the file cannot be read.

    See Also
    --------
    save : Write the file.

    Notes
    -----
    A file that :func:`skops.io.dump` wrote can be loaded, too, if it is not
    compressed. A compressed one may be a thousand times as large in memory.

    scikit-learn's own estimators come as skops restores them. Their attributes are not
    checked, and compiled code uses some of them. Load estimators of scikit-learn only
    from people whom you trust.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skdict import load, save
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "scaler.skops"
    ...     save(StandardScaler(with_mean=False), path)
    ...     load(path)
    StandardScaler(with_mean=False)
    """
    import skops.io
    from skops.io.exceptions import UntrustedTypesFoundException

    trusted = _trusted_types()
    if stat.S_ISFIFO(os.stat(path).st_mode):  # opening it would wait for a writer
        raise OSError(f"{os.fspath(path)!r} is no file.")
    with open(path, "rb") as file:
        try:
            check_archive(file)
            estimator = skops.io.load(file, trusted=trusted)
        except UntrustedTypesFoundException:
            untrusted = set(skops.io.get_untrusted_types(file=file)) - set(trusted)
            raise TypeError(
                f"{os.fspath(path)!r} is refused, because it needs types that are not "
                f"trusted: {', '.join(sorted(untrusted))}."
            ) from None
        except MemoryError:
            raise
        # A damaged archive can fail anywhere: in its directory, its checksums, its
        # JSON, or in a state that no longer fits its type.
        except Exception as error:
            raise ValueError(
                f"{os.fspath(path)!r} is damaged or is no skops file: "
                f"{type(error).__name__}: {error}"
            ) from error
    if not isinstance(estimator, BaseEstimator):
        raise ValueError(
            f"{os.fspath(path)!r} holds no estimator but a {type(estimator).__name__}."
        )
    try:
        _check_parts(estimator)
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)!r} is refused: {error}") from error
    return estimator


def _check_parts(estimator: BaseEstimator) -> None:
    """Check what an estimator holds, as far as compiled code would trust it.

    Raises
    ------
    ValueError
        If the attributes of one of this library's estimators do not fit together, or
        a random generator reads beyond its state.
    """
    ours = set(_trusted_types())
    for part in _parts(estimator):
        if _type_name(type(part)) in ours:
            check_fitted(part)
        elif isinstance(part, np.random.RandomState | np.random.Generator):
            _check_generator(part)


def _parts(value: Any) -> Iterator[Any]:
    """The value and everything in it, each object once."""
    seen: dict[int, Any] = {}  # keeps the objects, so that no id is used again
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if id(part) in seen or isinstance(part, type | str | bytes):
            continue
        seen[id(part)] = part
        yield part
        if isinstance(part, dict):
            waiting += [*part.keys(), *part.values()]
        elif isinstance(part, list | tuple | set | frozenset):
            waiting += part
        elif isinstance(part, np.ndarray) and part.dtype == object:
            waiting += part.ravel().tolist()
        waiting += getattr(part, "__dict__", {}).values()


def _check_generator(generator: np.random.RandomState | np.random.Generator) -> None:
    """Check that a generator reads inside its state, which numpy does not check."""
    state: Any
    if isinstance(generator, np.random.RandomState):
        state = generator.get_state(legacy=False)
    else:
        state = generator.bit_generator.state
    name = state["bit_generator"]
    if name == "MT19937":
        valid = 0 <= state["state"]["pos"] <= len(state["state"]["key"])
    else:
        valid = 0 <= state.get("buffer_pos", 0) <= len(state.get("buffer", ()))
    if not valid:
        raise ValueError(f"a generator {name} is at a position outside of its state.")
