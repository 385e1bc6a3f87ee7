"""What a report is given: rows and their codes, images, labels and metadata."""

from dataclasses import dataclass, field

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
from skdict.inspection.estimators import (
    coder_of,
    fitted_attribute,
    last_step,
    rows_before,
)
from skdict.stats import check_grid_shape, named_columns

# A column with more values than this is none of batches.
_MAX_LEVELS = 256

# Cells of codes that may be dense at a time.
_BLOCK_CELLS = 2**25


@dataclass
class Encoded:
    """Rows as the dictionary sees them."""

    atoms: np.ndarray  # of unit length, (n_features, n_dimensions)
    rows: np.ndarray  # of unit length, (n_rows, n_dimensions)
    codes: sparse.csr_array
    names: list[str]


def encode_rows(estimator, X, progress):
    """Atoms, rows and codes of a fitted dictionary or a Pipeline that ends in one."""
    atoms = as_numpy(fitted_attribute(estimator, "components_"))
    check_finite(atoms, "components_")
    given = rows_before(estimator, X)
    if sparse.issparse(given):
        raise ValueError("X must be dense where it reaches the dictionary.")
    rows = as_numpy(given)
    if rows.ndim != 2:
        raise ValueError(
            "X must have shape (n_rows, n_features), but it reaches the dictionary "
            f"with shape {rows.shape}."
        )
    coder = coder_of(estimator)
    rows = as_floats(rows)
    # A dictionary that was fitted on a frame is given one.
    given = given if hasattr(given, "columns") else rows
    # A dictionary with sparse codes works in batches by itself.
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


def _plain(codes):
    codes = codes if sparse.issparse(codes) else as_numpy(codes)
    # Of half precision scipy has no sparse arrays.
    return codes.astype(np.float32) if codes.dtype == np.float16 else codes


def _unit_length(rows):
    """Rows of unit length in their own precision, zero rows left."""
    dtype = rows.dtype if rows.dtype == np.float64 else np.float32
    out = np.empty(rows.shape, dtype)
    for some in row_blocks(rows):
        out[some] = unit_rows(rows[some])[0]
    return out


def _feature_names(coder, atoms):
    try:
        return [str(name) for name in coder.get_feature_names_out()]
    except AttributeError:
        return [str(i) for i in range(len(atoms))]


@dataclass
class Layout:
    """How rows belong to images."""

    n_rows: int
    n_images: int | None = None
    grid_shape: tuple[int, int] | None = None  # of the tokens of an image

    @property
    def per_image(self) -> int:
        """Rows of each image; only where there are images."""
        return self.n_rows // (self.n_images or 1)


def lay_out(X, images, grid_shape):
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
            f"X has {n_rows} rows, which is no multiple of the {n_images} images. Pass "
            "one row per image, or the same number of rows for each, image by image."
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
                "no square: pass grid_shape=(height, width), or None if the rows of an "
                "image are no grid, for images without heatmaps."
            )
        return Layout(n_rows, n_images, (side, side))
    height, width = check_grid_shape(grid_shape)
    if height * width != per_image:
        raise ValueError(
            f"X has {per_image} rows for each of the {n_images} images, but a grid of "
            f"{height} x {width} has {height * width} tokens."
        )
    return Layout(n_rows, n_images, (height, width) if per_image > 1 else None)


def column_of(values, name, layout):
    """A column of metadata with one value per row or per image; None where missing."""
    values, missing = labels_or_missing(values, name)
    _check_length(values, name, layout)
    values = _dates_as_text(values)
    if missing.any():
        gap = np.nan if values.dtype.kind == "f" else None
        values = np.where(missing, gap, values)
    return values


def labels_of(values, name, layout):
    """Labels, one per row or per image, none of them missing."""
    values = as_labels(values, name)
    _check_length(values, name, layout)
    return _dates_as_text(values)


def _dates_as_text(values):
    if values.dtype.kind != "M":
        return values
    # As text: numpy makes plain integers of dates in nanoseconds.
    return np.datetime_as_string(values, unit="auto")


def mask_of(values, name, layout):
    """A mask with one entry per row; it was given for these or for images."""
    values = as_mask(values, name)
    _check_length(values, name, layout)
    return rows_of(values, layout)


def _check_length(values, name, layout):
    if len(values) not in (layout.n_rows, layout.n_images):
        images = "" if layout.n_images is None else f" and {layout.n_images} images"
        raise ValueError(
            f"{name} has length {len(values)}, but there are {layout.n_rows} rows"
            f"{images}."
        )


def rows_of(values, layout):
    """A column with one value per row."""
    if len(values) == layout.n_rows:
        return values
    return np.repeat(values, layout.per_image)


def images_of(values, layout):
    """A column with one value per image, or None where an image has several."""
    if len(values) == layout.n_images:
        return values
    per_image = values.reshape(layout.n_images, -1)
    same = (per_image == per_image[:, :1]) | is_missing(values).reshape(per_image.shape)
    return per_image[:, 0] if same.all() else None


def encoded_rows(values, name, layout):
    """Numbers of the values of a column, one per row; None stays None."""
    if values is None:
        return None
    return rows_of(encode(labels_of(values, name, layout), name)[1], layout)


@dataclass
class Metadata:
    """The columns of metadata by what they are used for."""

    confounds: dict[str, np.ndarray] = field(default_factory=dict)  # one per row
    captions: dict[str, np.ndarray] = field(default_factory=dict)  # one per image
    constants: dict[str, str] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)


def sort_metadata(metadata, layout, groups):
    """Batches, captions and the rest.

    A column whose values repeat, at most 256 of them, may be that of a batch. Values
    that stand for one image, group or row each, and fractional numbers, name or measure
    it: they are captions where they hold for a whole image.
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


def _may_be_batch(values, of_images, groups, layout):
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
    units = (layout.n_rows, layout.n_images, n_groups)
    return n_levels <= _MAX_LEVELS and n_levels not in units
