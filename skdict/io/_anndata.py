"""Rows from AnnData objects, and codes into them."""

from __future__ import annotations

import json
import re
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from skdict._utils.extras import optional
from skdict._utils.sklearn_private import validate_params
from skdict._utils.steps import steps_of, unfrozen
from skdict._utils.types import Codes
from skdict.io._control import Rule, control_mask, some
from skdict.io._profiles import Profiles

__all__ = ["from_anndata", "to_anndata"]


@validate_params(
    {
        "adata": [object],
        "use": [str],
        "control": [dict, str, callable, None],
    },
    prefer_skip_nested_validation=True,
)
def from_anndata(adata: Any, use: str = "X", *, control: Rule = None) -> Profiles:
    """Take rows and metadata from an AnnData object, and find the controls.

    Parameters
    ----------
    adata : AnnData
        In memory, backed by a file, or lazy, from ``anndata.experimental.read_lazy``.

    use : str, default="X"
        Where the rows are: "X", the key of a layer or a key of `obsm`, for instance
        "X_scvi". "layers/counts" and "obsm/counts" tell keys apart that both have.

    control : dict, str or callable, default=None
        The rule for controls, applied to `obs`: see :func:`read_profiles`.

    Returns
    -------
    profiles : Profiles
        X : DataFrame, array, sparse matrix or dask array
            The rows as they are in `adata`, not copied. A dense array in memory from
            "X" or a layer becomes a DataFrame with the names of `var`.
        metadata : DataFrame of n_rows rows
            A copy of `obs`.
        control : ndarray of shape (n_rows,), bool, or None
            Which rows are controls.
        feature_names : list of str
            The names of `var`, or the key in `obsm` with a number.

    Raises
    ------
    ValueError
        If there are no such rows, or if no row is a control.
    TypeError
        If `adata` is no AnnData object.

    See Also
    --------
    read_profiles : The same from parquet and CSV files.
    to_anndata : The way back.

    Notes
    -----
    Sparse counts stay sparse. The estimators of this library need dense rows: use an
    embedding from `obsm`, as scanpy's neighbours and clusters do.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from anndata import AnnData
    >>> from skdict.io import from_anndata
    >>> obs = pd.DataFrame({"gene": ["TP53", "none"]}, index=["cell 1", "cell 2"])
    >>> adata = AnnData(obs=obs, obsm={"X_model": np.eye(2, dtype=np.float32)})
    >>> profiles = from_anndata(adata, "X_model", control={"gene": "none"})
    >>> profiles.control
    array([False,  True])
    """
    if not all(hasattr(adata, name) for name in ("X", "obs", "obsm", "layers")):
        raise TypeError(f"adata is a {type(adata).__name__}, not an AnnData object.")
    X, names = _rows_of(adata, use)
    obs = adata.obs
    # The table of a lazy object is read; its rows are not.
    metadata = obs.to_memory() if hasattr(obs, "to_memory") else obs.copy()
    return Profiles(X, metadata, control_mask(metadata, control), names)


def _rows_of(adata: Any, use: str) -> tuple[Any, list[str]]:
    if use == "X":
        X, place = adata.X, "X"
        if X is None:
            raise ValueError(f"adata.X is empty. There are {_keys_of(adata)}.")
    else:
        place, _, key = use.partition("/")
        if place not in ("layers", "obsm") or not key:
            places = [p for p in ("layers", "obsm") if use in getattr(adata, p)]
            if len(places) > 1:
                raise ValueError(
                    f"{use!r} is a layer and a key of obsm: say use='layers/{use}' or "
                    f"use='obsm/{use}'."
                )
            place, key = (places or ["obsm"])[0], use
        if key not in getattr(adata, place):
            raise ValueError(
                f"use={use!r} is neither 'X' nor a key of adata. There are "
                f"{_keys_of(adata)}."
            )
        X = getattr(adata, place)[key]
    if hasattr(X, "columns"):
        return X, [str(name) for name in X.columns]
    if len(X.shape) != 2:
        raise ValueError(f"use={use!r} has the shape {X.shape}, which is no table.")
    if place == "obsm":
        return _plain(X), [f"{key}_{i}" for i in range(X.shape[1])]
    names = [str(name) for name in adata.var_names]
    if isinstance(X, np.ndarray):
        X = pd.DataFrame(_plain(X), columns=names, index=adata.obs_names, copy=False)
    return X, names


def _plain(X: Any) -> Any:
    """Take a view of AnnData for what it is, an array; leave any other container."""
    return np.asarray(X) if isinstance(X, np.ndarray) else X


def _keys_of(adata: Any) -> str:
    layers, obsm = some(adata.layers), some(adata.obsm)
    return f"{layers or 'none'} in layers and {obsm or 'none'} in obsm"


@validate_params(
    {
        "codes": [object],
        "metadata": [pd.DataFrame, None],
        "estimator": [object],
        "adata": [object],
        "key": [str],
    },
    prefer_skip_nested_validation=True,
)
def to_anndata(
    codes: Codes,
    metadata: pd.DataFrame | None = None,
    *,
    estimator: Any = None,
    adata: Any = None,
    key: str = "X_icfl",
) -> Any:
    """Put codes, and the dictionary that made them, into an AnnData object.

    Parameters
    ----------
    codes : array-like, sparse or dask array of shape (n_rows, n_components)
        Codes of the rows.

    metadata : DataFrame of n_rows rows, default=None
        What is known about the rows, for `obs` of a new object. What AnnData cannot
        write becomes text, for instance dates.

    estimator : estimator object, default=None
        The fitted dictionary, or a Pipeline that ends in it, whose atoms and parameters
        are kept in `uns`.

    adata : AnnData, default=None
        The object that gets the codes, with the same rows in the same order; it is
        changed in place. None makes a new one.

    key : str, default="X_icfl"
        Key of `obsm` and of ``uns["skdict"]``. Codes under the same key are replaced.

    Returns
    -------
    adata : AnnData
        The codes are in ``obsm[key]``, as CSR. A new object has them in `X`, too, with
        one variable for each feature, because the tests of scanpy read `X`.

        With `estimator`, ``uns["skdict"][key]`` is a dict:

        components : ndarray of shape (n_components, n_features)
            The atoms, in the space of the rows that the dictionary was given.
        feature_names : ndarray of shape (n_components,), str
            The names of the columns of the codes.
        estimator : str
            The class of the dictionary.
        parameters : str
            JSON of its parameters.
        steps : str
            JSON of the steps before it: a list of their classes and parameters.
        input_names : ndarray of str
            The names of the columns of the rows, if they are known.
        version : str
            The version of skdict.

    Raises
    ------
    ValueError
        If `codes` has another number of rows than `adata` or `metadata`, or another
        number of columns than `estimator` has atoms; if `adata` is a view.
    ImportError
        If anndata is missing. The extra "tables" has it.

    See Also
    --------
    from_anndata : Rows from an AnnData object.
    skdict.save : The whole fitted pipeline in a file.

    Examples
    --------
    >>> import numpy as np
    >>> from skdict import ICFL
    >>> from skdict.io import to_anndata
    >>> X = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    >>> icfl = ICFL(8, k=2, max_iter=2, random_state=0).fit(X)
    >>> adata = to_anndata(icfl.transform(X), estimator=icfl)
    >>> adata.obsm["X_icfl"].shape
    (60, 8)
    >>> adata.uns["skdict"]["X_icfl"]["components"].shape
    (8, 4)
    >>> list(adata.var_names[:2])
    ['icfl0', 'icfl1']
    """
    anndata = optional("anndata", "to_anndata")
    if not key or "/" in key:
        raise ValueError(f"key={key!r}: AnnData's files need a name without a slash.")
    codes = _as_csr(codes)
    n_rows, n_components = codes.shape
    about = None if estimator is None else _about(estimator, n_components)
    if adata is None:
        names = _feature_names(estimator, n_components)
        adata = anndata.AnnData(
            codes, obs=_obs(metadata, n_rows), var=pd.DataFrame(index=names)
        )
    else:
        _check_target(adata, metadata, n_rows)
    adata.obsm[key] = codes
    if about is not None:
        adata.uns["skdict"] = {**adata.uns.get("skdict", {}), key: about}
    elif key in adata.uns.get("skdict", {}):
        # What is there describes the codes that have just been replaced.
        adata.uns["skdict"] = {
            other: kept for other, kept in adata.uns["skdict"].items() if other != key
        }
    return adata


def _check_target(adata: Any, metadata: pd.DataFrame | None, n_rows: int) -> None:
    if not all(hasattr(adata, name) for name in ("obsm", "uns", "n_obs")):
        raise TypeError(f"adata is a {type(adata).__name__}, not an AnnData object.")
    if metadata is not None:
        raise ValueError(
            "metadata is for a new object; adata has its own obs. Give one of them."
        )
    if adata.is_view:
        raise ValueError("adata is a view of another object. Pass adata.copy().")
    if adata.n_obs != n_rows:
        raise ValueError(f"codes has {n_rows} rows, but adata has {adata.n_obs}.")


def _as_csr(codes: Any) -> Any:
    """Make CSR matrices of codes; those of dask stay lazy."""
    if hasattr(codes, "dask"):
        if isinstance(codes._meta, sp.csr_matrix):
            return codes
        return codes.map_blocks(
            sp.csr_matrix, meta=sp.csr_matrix((0, 0), dtype=codes.dtype)
        )
    if not sp.issparse(codes):
        codes = np.asarray(codes)
        if codes.ndim != 2 or codes.dtype.kind not in "fiub":
            raise ValueError(
                f"codes has the shape {codes.shape} and the type {codes.dtype}, and is "
                "no table of numbers."
            )
    codes = sp.csr_matrix(codes)
    if not codes.has_sorted_indices:
        codes = codes.sorted_indices()
    return codes


def _feature_names(estimator: Any, n_components: int) -> np.ndarray:
    names: Any = [f"feature_{i}" for i in range(n_components)]
    if estimator is not None:
        last = unfrozen(steps_of(estimator)[-1])
        if hasattr(last, "get_feature_names_out"):
            names = last.get_feature_names_out()
    return np.array([str(name) for name in names], dtype=object)


def _about(estimator: Any, n_components: int) -> dict[str, Any]:
    """Describe a fitted estimator with arrays and texts, which AnnData can write."""
    *before, last = [unfrozen(step) for step in steps_of(estimator)]
    atoms = getattr(last, "components_", None)
    if atoms is None:
        raise ValueError(
            f"{type(last).__name__} has no components_: it is not fitted, or it is no "
            "dictionary."
        )
    if len(atoms) != n_components:
        raise ValueError(
            f"codes has {n_components} columns, but {type(last).__name__} has "
            f"{len(atoms)} atoms."
        )
    try:
        release = version("skdict")
    except PackageNotFoundError:  # run from a folder that is not installed
        release = "unknown"
    about: dict[str, Any] = {
        "components": np.array(atoms),
        "feature_names": _feature_names(estimator, n_components),
        "estimator": type(last).__name__,
        "parameters": _to_json(last.get_params(deep=False)),
        "steps": _to_json(
            [[type(step).__name__, step.get_params(deep=False)] for step in before]
        ),
        "version": release,
    }
    names = getattr(before[0] if before else last, "feature_names_in_", None)
    if names is not None:
        about["input_names"] = np.array([str(name) for name in names], dtype=object)
    return about


def _to_json(value: Any) -> str:
    """Write parameters as JSON; what JSON lacks, such as a generator, as its text."""

    def other(value: Any) -> Any:
        if isinstance(value, np.generic | np.ndarray):
            return value.tolist()
        return repr(value)

    return json.dumps(value, default=other)


def _obs(metadata: pd.DataFrame | None, n_rows: int) -> pd.DataFrame:
    """Convert metadata to columns and an index that AnnData can write."""
    if metadata is None:
        return pd.DataFrame(index=[str(i) for i in range(n_rows)])
    if len(metadata) != n_rows:
        raise ValueError(f"codes has {n_rows} rows, but metadata has {len(metadata)}.")
    names = [str(name) for name in metadata.columns]
    index = pd.Index([str(label) for label in metadata.index], dtype=object)
    for what, labels in (("columns", pd.Index(names)), ("rows", index)):
        if not labels.is_unique:
            twice = labels[labels.duplicated()].unique()
            raise ValueError(
                f"The {what} of metadata have the same name: {some(twice)}."
            )
    wrong = [name for name in names if "/" in name or name == "_index"]
    if wrong:
        raise ValueError(
            f"AnnData cannot write columns of metadata that are called {some(wrong)}: "
            "rename them. A name must not have a slash."
        )
    columns = {
        name: _writable(metadata.iloc[:, i]).set_axis(index)
        for i, name in enumerate(names)
    }
    return pd.DataFrame(columns, index=index)


def _writable(column: pd.Series) -> pd.Series:
    """Convert a column to a type that AnnData can write to HDF5 and zarr."""
    column = column.infer_objects()
    dtype: Any = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        if _is_writable(dtype.categories.dtype):
            return column
        texts = dtype.categories.map(str)
        if texts.is_unique:
            return column.cat.rename_categories(texts)
        return _as_text(column.astype(object))
    if _is_writable(dtype):
        return column
    if pd.api.types.is_bool_dtype(dtype):
        return column.astype("boolean")
    if not pd.api.types.is_numeric_dtype(dtype):
        return _as_text(column)
    if isinstance(dtype, pd.ArrowDtype) and not column.isna().any():
        return column.astype(dtype.numpy_dtype)
    return column.astype(np.float64)


def _is_writable(dtype: Any) -> bool:
    if isinstance(dtype, np.dtype):
        return dtype.kind in "biufc"
    return re.fullmatch(r"U?Int\d+|boolean", str(dtype)) is not None


def _as_text(column: pd.Series) -> pd.Series:
    missing = column.isna().to_numpy(dtype=bool)
    if missing.all():
        return pd.Series(np.nan, index=column.index)
    texts = np.full(len(column), np.nan, dtype=object)
    texts[~missing] = [
        value.decode(errors="replace") if isinstance(value, bytes) else str(value)
        for value in column[~missing]
    ]
    series = pd.Series(texts, index=column.index)
    repeats = series.nunique() < len(series) - missing.sum()
    return series.astype("category") if repeats or missing.any() else series
