"""Inputs of a report: rows and their codes, images, labels and metadata."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.utils import gen_batches

from skdict._utils.arrays import row_blocks, unit_rows
from skdict._utils.checks import as_floats, as_numpy, check_finite
from skdict._utils.labels import (
    as_labels,
    as_mask,
    encode,
    is_missing,
    labels_or_missing,
)
from skdict._utils.sklearn_private import num_samples, safe_indexing
from skdict._utils.steps import encode as codes_of
from skdict._utils.types import Data
from skdict.inspection.estimators import (
    coder_of,
    fitted_attribute,
    last_step,
    rows_before,
)
from skdict.stats import check_grid_shape, named_columns

# A column with more different values than this is not taken for batches.
_MAX_LEVELS = 256

# Number of cells of codes that may be dense at a time.
_BLOCK_CELLS = 2**25


@dataclass
class Encoded:
    """Rows as the dictionary sees them."""

    atoms: np.ndarray  # of unit length, (n_features, n_dimensions)
    rows: np.ndarray  # of unit length, (n_rows, n_dimensions)
    codes: sparse.csr_array
    names: list[str]


def encode_rows(estimator: Any, X: Data, progress: Callable[[int], Any]) -> Encoded:
    """Encode rows with a fitted dictionary or a Pipeline that ends in one."""
    atoms = as_numpy(fitted_attribute(estimator, "components_"))
    check_finite(atoms, "components_")
    given = rows_before(estimator, X)
    if sparse.issparse(given):
        raise ValueError("X must be dense when it reaches the dictionary.")
    rows = as_numpy(given)
    if rows.ndim != 2:
        raise ValueError(
            "X must have shape (n_rows, n_features), but it reaches the dictionary "
            f"with shape {rows.shape}."
        )
    coder = coder_of(estimator)
    rows = as_floats(rows)
    # A dictionary that was fitted on a DataFrame needs one.
    given = given if hasattr(given, "columns") else rows
    # A dictionary with sparse codes divides the rows into batches itself.
    whole = getattr(last_step(estimator), "sparse_output", False)
    size = len(rows) if whole else max(1, _BLOCK_CELLS // len(atoms))
    blocks = []
    for some in gen_batches(len(rows), size):
        blocks.append(
            sparse.csr_array(_plain(codes_of(coder, safe_indexing(given, some))))
        )
        progress(len(blocks[-1].indptr) - 1)
    codes = sparse.vstack(blocks, format="csr") if len(blocks) > 1 else blocks[0]
    check_finite(rows, "X as it reaches the dictionary")
    if codes.shape[1] != len(atoms):
        raise ValueError(
            f"The dictionary has {len(atoms)} atoms, but its codes have "
            f"{codes.shape[1]} columns."
        )
    names = _feature_names(coder, atoms)
    if len(names) != len(atoms):
        raise ValueError(
            f"The dictionary has {len(atoms)} atoms, but get_feature_names_out gives "
            f"{len(names)} names."
        )
    return Encoded(_unit_length(atoms), _unit_length(rows), codes, names)


def _plain(codes: Any) -> np.ndarray | sparse.csr_array:
    codes = codes if sparse.issparse(codes) else as_numpy(codes)
    # scipy has no sparse arrays of float16.
    return codes.astype(np.float32) if codes.dtype == np.float16 else codes


def _unit_length(rows: np.ndarray) -> np.ndarray:
    """Scale rows to unit length in their own precision; zero rows stay zero."""
    dtype = rows.dtype if rows.dtype == np.float64 else np.float32
    out = np.empty(rows.shape, dtype)
    for some in row_blocks(rows):
        out[some] = unit_rows(rows[some])[0]
    return out


def _feature_names(coder: Any, atoms: np.ndarray) -> list[str]:
    try:
        return [str(name) for name in coder.get_feature_names_out()]
    except AttributeError:
        return [str(i) for i in range(len(atoms))]


@dataclass
class Layout:
    """Numbers of rows and images, and the grid of tokens."""

    n_rows: int
    n_images: int | None = None
    grid_shape: tuple[int, int] | None = None  # of the tokens of an image

    @property
    def per_image(self) -> int:
        """Number of rows of each image; meaningless without images."""
        return self.n_rows // (self.n_images or 1)


def lay_out(X: Data, images: Any, grid_shape: Any) -> Layout:
    """Check images against rows, and find the grid of tokens."""
    n_rows = num_samples(X)
    if n_rows == 0:
        raise ValueError("X has no rows.")
    if images is None:
        if not (grid_shape is None or str(grid_shape) == "auto"):
            raise ValueError("grid_shape needs images.")
        return Layout(n_rows)
    if not hasattr(images, "__len__"):
        raise ValueError(
            f"images must be an array or a list of arrays, got {type(images).__name__}."
        )
    n_images, shape = len(images), getattr(images, "shape", None)
    if shape is not None and (
        len(shape) not in (3, 4) or (len(shape) == 3 and shape[2] <= 4)
    ):
        raise ValueError(
            "images must have shape (n_images, height, width) or (n_images, height, "
            f"width, n_channels), got {tuple(shape)}. A single image needs an axis in "
            "front, images[np.newaxis]."
        )
    if shape is not None and len(shape) == 4 and shape[1] <= 8 and shape[3] > 16:
        raise ValueError(
            f"images have shape {tuple(shape)}: {shape[1]} rows of pixels with "
            f"{shape[3]} channels. Channels must be the last axis, as in "
            "np.moveaxis(images, 1, -1)."
        )
    if n_images == 0 or n_rows % n_images:
        raise ValueError(
            f"X has {n_rows} rows, which is not a multiple of the {n_images} images. "
            "Pass one row per image, or the same number of rows for each, image by "
            "image."
        )
    per_image = n_rows // n_images
    if grid_shape is None or (isinstance(grid_shape, str) and per_image == 1):
        return Layout(n_rows, n_images)
    if isinstance(grid_shape, str):
        if grid_shape != "auto":
            raise ValueError(
                f"grid_shape must be 'auto', (height, width) or None, got "
                f"{grid_shape!r}."
            )
        side = round(np.sqrt(per_image))
        if side * side != per_image:
            raise ValueError(
                f"X has {per_image} rows for each of the {n_images} images, which is "
                "not a square number: pass grid_shape=(height, width), or None if the "
                "rows of an image are not a grid, for images without heatmaps."
            )
        return Layout(n_rows, n_images, (side, side))
    height, width = check_grid_shape(grid_shape)
    if height * width != per_image:
        raise ValueError(
            f"X has {per_image} rows for each of the {n_images} images, but a grid of "
            f"{height} x {width} has {height * width} tokens."
        )
    return Layout(n_rows, n_images, (height, width) if per_image > 1 else None)


def column_of(values: Data, name: str, layout: Layout) -> np.ndarray:
    """Convert a column of metadata, with one value per row or per image.

    Missing values become NaN in floats and None in other columns.
    """
    values, missing = labels_or_missing(values, name)
    _check_length(values, name, layout)
    values = _dates_as_text(values)
    if missing.any():
        gap = np.nan if values.dtype.kind == "f" else None
        values = np.where(missing, gap, values)
    return values


def labels_of(values: Data, name: str, layout: Layout) -> np.ndarray:
    """Convert labels, one per row or per image; none may be missing."""
    values = as_labels(values, name)
    _check_length(values, name, layout)
    return _dates_as_text(values)


def _dates_as_text(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind != "M":
        return values
    # Convert to text: tolist() makes plain integers of dates in nanoseconds.
    return np.datetime_as_string(values, unit="auto")


def mask_of(values: Data, name: str, layout: Layout) -> np.ndarray:
    """Convert a mask, given for rows or for images, to one entry per row."""
    values = as_mask(values, name)
    _check_length(values, name, layout)
    return rows_of(values, layout)


def _check_length(values: np.ndarray, name: str, layout: Layout) -> None:
    if len(values) not in (layout.n_rows, layout.n_images):
        images = "" if layout.n_images is None else f" and {layout.n_images} images"
        raise ValueError(
            f"{name} has length {len(values)}, but there are {layout.n_rows} rows"
            f"{images}."
        )


def rows_of(values: np.ndarray, layout: Layout) -> np.ndarray:
    """Expand a column to one value per row."""
    if len(values) == layout.n_rows:
        return values
    return np.repeat(values, layout.per_image)


def images_of(values: np.ndarray, layout: Layout) -> np.ndarray | None:
    """Reduce a column to one value per image; None if an image has several values."""
    if len(values) == layout.n_images:
        return values
    per_image = values.reshape(-1, layout.per_image)
    same = (per_image == per_image[:, :1]) | is_missing(values).reshape(per_image.shape)
    return per_image[:, 0] if same.all() else None


def encoded_rows(values: Data | None, name: str, layout: Layout) -> np.ndarray | None:
    """Number the values of a column, one number per row; None stays None."""
    if values is None:
        return None
    return rows_of(encode(labels_of(values, name, layout), name)[1], layout)


@dataclass
class Metadata:
    """The columns of metadata by their use."""

    confounds: dict[str, np.ndarray] = field(default_factory=dict)  # one per row
    captions: dict[str, np.ndarray] = field(default_factory=dict)  # one per image
    constants: dict[str, str] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)


def sort_metadata(
    metadata: Data | None, layout: Layout, groups: np.ndarray | None
) -> Metadata:
    """Sort columns into confounds, captions, constants and unused ones.

    A column of at most 256 values that repeat may be a batch, and so a confound. A
    column with a different value for every image, group or row, or with fractional
    numbers, names or measures them: it becomes a caption if each image has a single
    value.
    """
    sorted_ = Metadata()
    for name, values in named_columns(metadata, "metadata").items():
        values = column_of(values, f"Column {name} of metadata", layout)
        of_images = None if layout.n_images is None else images_of(values, layout)
        if not _may_be_batch(values, of_images, groups, layout):
            if of_images is None:
                sorted_.unused.append(name)
            else:
                sorted_.captions[name] = of_images
            continue
        levels, ids = encode(values, f"Column {name} of metadata")
        if len(levels) == 1:
            sorted_.constants[name] = str(levels[0])
        else:
            sorted_.confounds[name] = rows_of(levels[ids], layout)
            if of_images is not None:
                sorted_.captions[name] = of_images
    return sorted_


def _may_be_batch(
    values: np.ndarray,
    of_images: np.ndarray | None,
    groups: np.ndarray | None,
    layout: Layout,
) -> bool:
    if is_missing(values).all():
        return False
    if values.dtype.kind == "f":
        finite = values[np.isfinite(values)]
        if (finite != np.floor(finite)).any():
            return False
    elif values.dtype.kind == "m":
        return False
    n_levels = len({*map(str, values.tolist())})
    if n_levels == 1:
        return True
    n_groups = None if groups is None else len(np.unique(groups))
    n_each = (layout.n_rows, layout.n_images, n_groups)
    return n_levels <= _MAX_LEVELS and n_levels not in n_each
