"""Imports the other libraries, or says why the import failed."""

from __future__ import annotations

import atexit
import contextlib
import importlib
import importlib.util
import io
import multiprocessing
import sys
import time
import types
from concurrent.futures import ProcessPoolExecutor
from types import ModuleType

import numpy as np
import scipy.sparse as sp
import torch
from _timing import Seconds

INSTALL = "`make bench` installs it, or `pip install '.[bench]'`"


class MissingPeerError(ImportError):
    """A peer is missing or does not work here; the message says which and why."""


class SpamsOmp:
    """Orthogonal matching pursuit of SPAMS, in a process of its own.

    SPAMS sets the number of OpenMP threads for torch, too, because both share the
    OpenMP runtime. Its idle threads also spin. In one process the two slow each other
    down.

    Parameters
    ----------
    rows : ndarray of shape (n, d)
        What :meth:`time` encodes.
    atoms : ndarray of shape (M, d)
        The dictionary, unit rows.
    k : int
        Atoms of a row.
    """

    def __init__(self, rows: np.ndarray, atoms: np.ndarray, k: int):
        self._pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
        atexit.register(self._pool.shutdown)
        threads = torch.get_num_threads()
        self._pool.submit(_prepare_spams, rows, atoms, k, threads).result()

    def time(self) -> Seconds:
        """Encode the rows; only the call of SPAMS is timed."""
        return Seconds(self._pool.submit(_spams_seconds).result())

    def encode(self, rows: np.ndarray) -> sp.csr_matrix:
        """Codes of any rows."""
        return self._pool.submit(_spams_encode, rows).result()


# What the process of SPAMS keeps.
_spams_arguments: dict = {}


def _prepare_spams(rows, atoms, k, threads) -> None:
    _import("spams", "spams-bin")
    _spams_arguments.update(rows=rows, atoms=atoms, k=k, threads=threads)


def _spams_encode(rows) -> sp.csr_matrix:
    import spams

    k = _spams_arguments["k"]
    # Rows of a C array are the columns of the Fortran array that SPAMS wants. Without
    # eps, the float32 version stops at a residual that was never initialised: in one
    # process out of two it returned empty codes, and was fast.
    codes = spams.omp(
        rows.T,
        _spams_arguments["atoms"].T,
        L=k,
        eps=0.0,
        numThreads=_spams_arguments["threads"],
    )
    if codes.nnz < 0.99 * k * len(rows):
        raise RuntimeError(f"SPAMS picked {codes.nnz / len(rows):.1f} atoms, not {k}")
    return codes.T


def _spams_seconds() -> float:
    rows = _spams_arguments["rows"]
    start = time.perf_counter()
    _spams_encode(rows)
    return time.perf_counter() - start


def dictlearn() -> ModuleType:
    return _import("dictlearn", "dictlearn")


def sparsify() -> ModuleType:
    _hide_torchvision()
    # It prints that there is no Triton.
    with contextlib.redirect_stdout(io.StringIO()):
        return _import("sparsify", "eai-sparsify")


def overcomplete_sae() -> ModuleType:
    """Only ``overcomplete.sae``, because the whole package imports vision models."""
    spec = importlib.util.find_spec("overcomplete")
    if spec is not None and "overcomplete" not in sys.modules:
        package = types.ModuleType("overcomplete")
        package.__path__ = list(spec.submodule_search_locations or [])
        sys.modules["overcomplete"] = package
    return _import("overcomplete.sae", "overcomplete")


def sae_lens() -> ModuleType:
    _hide_torchvision()
    return _import("sae_lens", "sae-lens")


def dictionary_learning() -> ModuleType:
    _hide_torchvision()
    return _import("dictionary_learning", "dictionary-learning")


def saev_nn() -> ModuleType:
    """Only ``saev.nn``, because the whole package imports vision models.

    The extra leaves saev out, which pulls in notebooks and plots.
    """
    if importlib.util.find_spec("saev") is None:
        raise MissingPeerError(
            "saev is not installed (`pip install --no-deps saev beartype jaxtyping "
            "wadler_lindig`)"
        )
    return _import("saev.nn", "saev")


def _import(module: str, distribution: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name == module.partition(".")[0]:
            reason = f"{distribution} is not installed ({INSTALL})"
        else:
            reason = f"{distribution} does not import here: {_first_line(error)}"
        raise MissingPeerError(reason) from error
    except Exception as error:
        raise MissingPeerError(
            f"{distribution} does not import here: {_first_line(error)}"
        ) from error


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def _hide_torchvision() -> None:
    """Let transformers, which sparsify imports, do without torchvision.

    The wheel of the package index is built for CUDA and does not load beside a
    build of torch for the CPU; nothing that is measured uses it.
    """
    try:
        importlib.import_module("torchvision")
    except Exception:
        for name in [n for n in sys.modules if n.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        sys.modules["torchvision"] = None  # type: ignore[assignment]
