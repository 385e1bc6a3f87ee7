"""Grids of tokens over images: checks, and reduction of images to the grid."""

from __future__ import annotations

import numpy as np

from skdict._utils.checks import on_host
from skdict._utils.types import Data


def check_heatmaps(heatmaps: Data) -> np.ndarray:
    """Check heatmaps and convert them to a stack in float64, even a single one."""
    try:
        heatmaps = on_host(heatmaps)
        if np.asarray(heatmaps).dtype.kind == "c":
            raise TypeError("these are complex")
        heatmaps = np.asarray(heatmaps, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"heatmaps must be an array of numbers, all of one shape: {error}."
        ) from error
    if heatmaps.ndim not in (2, 3):
        raise ValueError(
            "heatmaps must have shape (height, width) or (n_images, height, width), "
            f"got {heatmaps.shape}."
        )
    if heatmaps.size == 0:
        raise ValueError(f"heatmaps is empty: its shape is {heatmaps.shape}.")
    heatmaps = heatmaps.reshape(-1, *heatmaps.shape[-2:])
    bad = np.flatnonzero(~np.isfinite(heatmaps).all(axis=(1, 2)))
    if bad.size:
        raise ValueError(
            f"{bad.size} of {len(heatmaps)} heatmaps hold NaN or infinity, the first "
            f"of them heatmap {bad[0]}."
        )
    return heatmaps


def check_images(
    images: Data, n_images: int, grid_shape: tuple[int, int]
) -> list[np.ndarray]:
    """Check images and list them in shape (height, width, n_channels).

    There must be one for each heatmap. A single image may be given without a list.
    """
    images = list_images(images, n_images)
    checked = [check_image(image, i) for i, image in enumerate(images)]
    for i, image in enumerate(checked):
        _check_size(image, i, grid_shape, "Image", "(height, width, n_channels)", 3)
    n_channels = [image.shape[2] for image in checked]
    if len(set(n_channels)) > 1:
        raise ValueError(
            "The images must have the same number of channels, got "
            f"{sorted(set(n_channels))}."
        )
    return checked


def check_image(image: Data, i: int) -> np.ndarray:
    """Check an image and give it the shape (height, width, n_channels)."""
    image = np.asarray(on_host(image))
    if image.dtype.kind not in "biuf":
        raise ValueError(f"Image {i} holds no numbers: its dtype is {image.dtype}.")
    if image.ndim not in (2, 3):
        raise ValueError(
            f"Image {i} must have shape (height, width) or (height, width, "
            f"n_channels), got {image.shape}."
        )
    if image.size == 0:
        raise ValueError(f"Image {i} is empty: its shape is {image.shape}.")
    if not np.isfinite(image).all():
        raise ValueError(f"Image {i} holds NaN or infinity.")
    if image.dtype.kind == "b":  # brightness needs differences, which booleans lack
        image = image.astype(np.float32)
    return image if image.ndim == 3 else image[..., None]


def check_masks(
    masks: Data, n_images: int, grid_shape: tuple[int, int]
) -> list[np.ndarray]:
    """Check masks and list them in shape (height, width), one for each heatmap."""
    masks = [
        # Convert lists to objects: NumPy would turn a missing label into a string.
        mask if isinstance(mask, np.ndarray) else np.asarray(mask, dtype=object)
        for mask in map(on_host, list_images(masks, n_images, "mask", max_ndim=2))
    ]
    for i, mask in enumerate(masks):
        _check_size(mask, i, grid_shape, "Mask", "(height, width)", 2)
    return masks


def list_images(
    images: Data, n_images: int, name: str = "images", max_ndim: int = 3
) -> list[Data]:
    """List images, and check only that there is one for each heatmap."""
    if not hasattr(images, "__len__"):
        raise ValueError(
            f"{name} must be an array or a list of arrays, got {type(images).__name__}."
        )
    # With one heatmap, an array (512, 512, 3) is one image, not 512 images.
    if n_images == 1 and not isinstance(images, list | tuple) and len(images) != 1:
        images = np.asanyarray(on_host(images))  # masked arrays keep their masks
        images = [images] if images.ndim <= max_ndim else images
    if len(images) != n_images:
        raise ValueError(
            f"{name} must have one entry for each heatmap, got {len(images)} entries "
            f"for {n_images} heatmaps."
        )
    return list(images)


def _check_size(
    image: np.ndarray,
    i: int,
    grid_shape: tuple[int, int],
    name: str,
    wanted: str,
    ndim: int,
) -> None:
    if image.ndim != ndim:
        raise ValueError(f"{name} {i} must have shape {wanted}, got {image.shape}.")
    if image.shape[0] < grid_shape[0] or image.shape[1] < grid_shape[1]:
        raise ValueError(
            f"{name} {i} has {image.shape[0]} x {image.shape[1]} pixels, fewer than "
            f"the grid of {grid_shape[0]} x {grid_shape[1]} tokens."
        )


def block_means(image: np.ndarray, grid_shape: tuple[int, int]) -> np.ndarray:
    """Mean of each token's block of pixels: shape (*grid_shape, n_channels).

    All blocks have the same size, even if it is not a whole number of pixels: a pixel
    on a border counts in each block by the fraction of it that lies inside.
    """
    across_rows = _block_weights(image.shape[0], grid_shape[0])
    across_columns = _block_weights(image.shape[1], grid_shape[1])
    image = image.astype(np.float64)
    return np.einsum(
        "ih,hwc,jw->ijc", across_rows, image, across_columns, optimize=True
    )


def majority_labels(
    ids: np.ndarray, n_labels: int, grid_shape: tuple[int, int]
) -> np.ndarray:
    """Find the label that fills most of each token's block; of equals, the first."""
    best_fraction = np.full(grid_shape, -1.0)
    best_label = np.zeros(grid_shape, dtype=np.intp)
    for label in range(n_labels):
        fraction = block_means((ids == label)[..., None], grid_shape)[..., 0]
        # The fractions of equal areas differ by rounding.
        better = fraction > best_fraction + 1e-9
        best_fraction[better] = fraction[better]
        best_label[better] = label
    return best_label


def _block_weights(n_pixels: int, n_blocks: int) -> np.ndarray:
    """Weight of each pixel (columns) in the mean of each block (rows)."""
    edges = np.arange(n_blocks + 1) * (n_pixels / n_blocks)
    pixels = np.arange(n_pixels)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(
        edges[:-1, None], pixels
    )
    overlap = np.clip(overlap, 0.0, None)
    return overlap / overlap.sum(axis=1, keepdims=True)


def token_box(
    row: int,
    column: int,
    grid_shape: tuple[int, int],
    image_shape: tuple[int, ...],
    context: int = 0,
) -> tuple[int, int, int, int]:
    """Pixels (top, bottom, left, right) of a token and `context` tokens around it."""
    box: list[int] = []
    for place, n_blocks, n_pixels in zip(
        (row, column), grid_shape, image_shape[:2], strict=True
    ):
        edges = np.array([place - context, place + 1 + context]) * n_pixels / n_blocks
        box += np.clip(np.round(edges).astype(int), 0, n_pixels).tolist()
    top, bottom, left, right = box
    return top, bottom, left, right
