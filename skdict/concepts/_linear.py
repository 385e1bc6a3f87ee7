"""Decoders as linear maps, which is what all dictionaries of the family have."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from sklearn import config_context

from skdict._utils.arrays import blocks
from skdict._utils.checks import check_numbers
from skdict._utils.sklearn_private import num_samples, safe_indexing
from skdict._utils.types import Codes, Data

from ._decode import back, chain_of, decode, norm_of, rows_before

# Number of entries of the codes of single features that are decoded at a time.
_BLOCK_ENTRIES = 2**24
# Rows on which it is tried whether the decoder is linear, and how exactly.
_N_TRIED = 20
_LINEAR = 1e-4


class LinearDecoder(NamedTuple):
    """Rows, and how they change with their codes: by ``scale * change @ atoms``."""

    rows: np.ndarray  # (n_samples, n_features), float64: the rows as they are now
    scale: np.ndarray  # (n_samples,): norms by which the rows had been divided
    atoms: np.ndarray  # (n_components, n_features), float64

    def without(self, codes: sp.csr_array) -> np.ndarray:
        """Rows of which all features are taken out."""
        return self.rows - self.scale[:, None] * (codes @ self.atoms)


def linear_decoder(
    estimator: Any,
    codes: Codes,
    X: Data | None,
    *,
    to: str,
    keep_error: bool,
    params: dict[str, Data] | None,
) -> LinearDecoder:
    """Decode codes, and find the atoms in the space of the rows.

    Raises
    ------
    ValueError
        If the decoder, with the inverses of the steps, is not one linear map.
    """
    n_samples, n_components = codes.shape
    if X is not None and num_samples(X) != n_samples:
        raise ValueError(f"X has {num_samples(X)} rows, but codes has {n_samples}.")
    chain = chain_of(estimator)
    scale = np.ones(n_samples)
    before = X
    with config_context(transform_output="default"):
        if X is not None:
            norms, before = rows_before(chain, X, params or {})
            for norm in norms if to == "input" else []:
                scale *= 1.0 if norm is None else norm
    if X is None or not keep_error:
        rows = decode(estimator, codes, X, to=to, keep_error=False, params=params)
    else:
        # The codes are those of the rows, which need not be encoded again.
        rows = check_numbers(X if to == "input" else before, input_name="X")
    ones = [None if norm_of(step) is None else np.ones(1) for step in chain.before]

    def decoded(part: Any) -> np.ndarray:
        # As if all were rows like the first one.
        along = {
            name: np.repeat(np.asarray(values)[:1], part.shape[0])
            for name, values in (params or {}).items()
            if values is not None
        }
        part = part if sp.issparse(codes) else part.toarray()
        part = part.astype(codes.dtype)
        return back(chain, part, ones, to, along).astype(np.float64)

    origin = decoded(sp.csr_matrix((1, n_components)))
    atoms = np.concatenate(
        [
            decoded(
                sp.csr_matrix(
                    (
                        np.ones(some.stop - some.start),
                        np.arange(some.start, some.stop),
                        np.arange(some.stop - some.start + 1),
                    ),
                    shape=(some.stop - some.start, n_components),
                )
            )
            - origin
            for some in blocks(n_components, n_components, _BLOCK_ENTRIES)
        ]
    )
    if rows.shape[1] != atoms.shape[1]:
        raise ValueError(
            f"X has {rows.shape[1]} columns, but the inverse of the steps gives "
            f"{atoms.shape[1]}: pass keep_error=False."
        )
    decoder = LinearDecoder(rows.astype(np.float64), scale, atoms)
    _check(estimator, codes, X, to, params, decoder)
    return decoder


def _check(
    estimator: Any,
    codes: Codes,
    X: Data | None,
    to: str,
    params: dict[str, Data] | None,
    decoder: LinearDecoder,
) -> None:
    """Check on some rows that codes change rows as the decoder says."""
    some = np.arange(0, codes.shape[0], max(1, codes.shape[0] // _N_TRIED))
    given = {k: np.asarray(v)[some] for k, v in (params or {}).items() if v is not None}
    part = codes[some]
    # A frame stays one, for steps that were fitted on frames.
    own = None if X is None else safe_indexing(X, some)

    def decoded(edited: Codes) -> np.ndarray:
        return decode(estimator, edited, own, to=to, keep_error=False, params=given)

    found = decoded(part) - decoded(part * 0)
    expected = decoder.scale[some, None] * (part @ decoder.atoms)
    size = np.abs(found).max(initial=0.0)
    if np.abs(found - expected).max(initial=0.0) > _LINEAR * size:
        raise ValueError(
            "The inverse of the steps before the dictionary is not the same linear map "
            "for all rows: pass to='dictionary', and a head that takes the rows that "
            "the dictionary takes."
        )
