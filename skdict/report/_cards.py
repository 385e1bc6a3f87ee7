"""The cards of features: histograms, neighbours and images."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils import gen_batches

from skdict.images.grid import block_means

from ._features import Features, card_labels
from ._inputs import Encoded, Layout

if TYPE_CHECKING:
    from ._pictures import Pictures

_MAX_BINS = 40
_MAX_ACTIVITY_BINS = 20
N_NEIGHBOURS = 5

_DEAD = "The feature does not fire on any of these rows."

# Number of cosines that are held at a time.
_BLOCK_COSINES = 2**23
_MAX_FEATURES = 64


def feature_batches(n_features: int, n_rows: int) -> Iterator[slice]:
    """Yield slices of features whose cosines with all rows fit into a block."""
    size = np.clip(_BLOCK_COSINES // n_rows, 1, _MAX_FEATURES)
    return gen_batches(n_features, int(size))


def nearest_atoms(atoms: np.ndarray, some: slice) -> tuple[np.ndarray, np.ndarray]:
    """Find the nearest other atoms of some atoms of unit length, and their cosines.

    Of atoms that are equally near, the first ones are taken.
    """
    cosines = np.clip(atoms[some] @ atoms.T, -1, 1)
    places = np.arange(len(cosines))
    cosines[places, places + some.start] = -np.inf
    n = min(N_NEIGHBOURS, len(atoms) - 1)
    # Sorting whole rows would take ten times as long.
    smallest = np.partition(cosines, -n, axis=1)[:, -n]
    order = np.empty((len(cosines), n), np.intp)
    for i, row in enumerate(cosines):
        near = np.flatnonzero(row >= smallest[i])
        order[i] = near[np.argsort(-row[near], kind="stable")[:n]]
    return order, np.take_along_axis(cosines, order, axis=1)


def extreme_images(
    encoded: Encoded, layout: Layout, n_most: int, n_least: int
) -> tuple[np.ndarray, np.ndarray]:
    """Find the images with the largest and smallest mean cosine for each feature.

    Returns
    -------
    images : ndarray of shape (n_features, n_most + n_least)
        First the most aligned images, then the least aligned; on either side the most
        extreme comes first.
    values : ndarray of the same shape
        Mean cosines of the images.
    """
    rows = encoded.rows.reshape(-1, layout.per_image, encoded.rows.shape[1])
    # The mean cosine of an image is the product of the atom with its mean unit row.
    means = rows.mean(axis=1, dtype=np.float64)
    images = np.empty((len(encoded.atoms), n_most + n_least), np.intp)
    values = np.empty(images.shape)
    for some in feature_batches(len(images), len(means)):
        scores = encoded.atoms[some] @ means.T
        most = np.argsort(-scores, axis=1, kind="stable")[:, :n_most]
        least = np.argsort(scores, axis=1, kind="stable")[:, :n_least]
        images[some] = np.hstack((most, least))
        values[some] = np.take_along_axis(scores, images[some], axis=1)
    return images, values


def histogram(
    values: np.ndarray, is_best: np.ndarray | None, max_bins: int
) -> tuple[np.ndarray, np.ndarray]:
    """Count values in common bins, for the best label and for the rest.

    Parameters
    ----------
    values : ndarray of shape (n,)
    is_best : ndarray of shape (n,), bool, or None
    max_bins : int

    Returns
    -------
    edges : ndarray
        Multiples of a width with two significant digits, so that their text is short.
    fractions : ndarray of shape (n_series, n_bins)
        Fractions of the values of a series: a single one, or the best label and the
        rest. An empty series has zeros.
    """
    low, high = float(values.min()), float(values.max())
    width = max((high - low) / (max_bins - 1), 1e-6 * max(abs(low), abs(high)), 1e-12)
    unit = 10.0 ** (np.floor(np.log10(width)) - 1)
    width = np.ceil(width / unit - 1e-9) * unit
    first = int(np.floor(low / width))
    n_bins = int(np.floor(high / width)) - first + 1
    bins = np.floor(values * (1 / width)).astype(np.intp) - first
    # Rounding may put the smallest or the largest value one bin outside.
    np.clip(bins, 0, n_bins - 1, out=bins)
    edges = np.arange(first, first + n_bins + 1) * width
    if is_best is None:
        counts = np.bincount(bins, minlength=n_bins)[None]
    else:
        bins[~is_best] += n_bins
        counts = np.bincount(bins, minlength=2 * n_bins).reshape(2, n_bins)
    return edges, counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def quantise(values: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    """Scale values to bytes, with an error of at most 1/510 of their range."""
    low = np.floor(values.min() * 1e4) / 1e4
    high = np.ceil(values.max() * 1e4) / 1e4
    span = high - low
    levels = np.rint((values - low) * (255 / span)) if span > 0 else 0 * values
    return np.clip(levels, 0, 255).astype(np.uint8), (float(low), float(high))


def gen_cards(
    encoded: Encoded,
    features: Features,
    layout: Layout,
    pictures: Pictures | None,
    captions: list[str],
    progress: Callable[[int], Any],
) -> Iterator[dict[str, Any]]:
    """Yield the card of each feature.

    Parameters
    ----------
    encoded : Encoded
    features : Features
    layout : Layout
    pictures : Pictures or None
    captions : list of str
        Captions of all images.
    progress : callable
        It is called with the number of features that each batch has completed.
    """
    by_feature = encoded.codes.tocsc()
    for some in feature_batches(len(encoded.atoms), layout.n_rows):
        cosines = encoded.atoms[some] @ encoded.rows.T
        np.clip(cosines, -1, 1, out=cosines)
        neighbours = nearest_atoms(encoded.atoms, some)
        heatmaps = _heatmaps(cosines, some, layout, pictures)
        for j, feature in enumerate(range(some.start, some.stop)):
            entries = slice(by_feature.indptr[feature], by_feature.indptr[feature + 1])
            rows, codes = by_feature.indices[entries], by_feature.data[entries]
            images, span = _images(feature, pictures, captions, heatmaps, j)
            yield {
                "labels": card_labels(features, feature),
                "histograms": _histograms(features, feature, cosines[j], rows, codes),
                "neighbours": [
                    {"feature": int(other), "cosine": round(float(cosine), 4)}
                    for other, cosine in zip(*(a[j] for a in neighbours), strict=True)
                ],
                "images": images,
                "heatmap_range": span,
                "notes": [] if features.n_active[feature] else [_DEAD],
            }
        progress(some.stop - some.start)


def _histograms(
    features: Features,
    feature: int,
    cosines: np.ndarray,
    rows: np.ndarray,
    codes: np.ndarray,
) -> list[dict[str, Any]]:
    label = features.label if features.n_active[feature] else None
    is_best, names = None, ["all rows"]
    if label is not None:
        best = label.best[feature]
        is_best = label.ids == best
        names = [str(label.levels[best]), "all others"]
    cases = [("Cosine with the rows", "cosine", cosines, is_best, _MAX_BINS)]
    active = np.abs(codes) > features.activity_threshold
    if active.any():
        of_active = None if is_best is None else is_best[rows[active]]
        title = "Activation where the feature fires"
        cases.append(
            (title, "activation", codes[active], of_active, _MAX_ACTIVITY_BINS)
        )
    histograms = []
    for title, xlabel, values, which, n_bins in cases:
        edges, fractions = histogram(values, which, n_bins)
        histograms.append(_histogram(title, xlabel, edges, fractions, names))
    return histograms


def _histogram(
    title: str, xlabel: str, edges: np.ndarray, fractions: np.ndarray, names: list[str]
) -> dict[str, Any]:
    return {
        "title": title,
        "xlabel": xlabel,
        "edges": [float(f"{edge:.6g}") for edge in edges],
        "series": [
            {"name": name, "fractions": np.round(series, 4).tolist()}
            for name, series in zip(names, fractions, strict=True)
        ],
    }


def _heatmaps(
    cosines: np.ndarray, some: slice, layout: Layout, pictures: Pictures | None
) -> np.ndarray | None:
    """Heatmaps of the images of each card: (n_features, n_items, height, width)."""
    if pictures is None or pictures.grid is None or layout.grid_shape is None:
        return None
    images = pictures.images[some]
    by_image = cosines.reshape(len(cosines), -1, layout.per_image)
    maps = np.take_along_axis(by_image, images[:, :, None], axis=1)
    return reduce_heatmaps(
        maps.reshape(*images.shape, *layout.grid_shape), pictures.grid
    )


def reduce_heatmaps(maps: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Reduce heatmaps to a coarser grid by means of blocks."""
    if maps.shape[-2:] == tuple(grid):
        return maps
    leading = maps.shape[:-2]
    stacked = np.moveaxis(maps.reshape(-1, *maps.shape[-2:]), 0, -1)
    return np.moveaxis(block_means(stacked, grid), -1, 0).reshape(*leading, *grid)


def _images(
    feature: int,
    pictures: Pictures | None,
    captions: list[str],
    heatmaps: np.ndarray | None,
    j: int,
) -> tuple[list[dict[str, Any]], list[float] | None]:
    if pictures is None:
        return [], None
    levels = span = None
    if heatmaps is not None:
        levels, span = quantise(heatmaps[j])
    items = []
    for i, image in enumerate(pictures.images[feature]):
        packed = None
        if levels is not None:
            packed = base64.b64encode(levels[i].tobytes()).decode()
        items.append(
            {
                "image": int(pictures.thumbnail_of[image]),
                "caption": captions[image],
                "value": round(float(pictures.values[feature, i]), 4),
                "heatmap": packed,
            }
        )
    groups = [
        {"title": title, "items": group}
        for title, group in (
            ("Most aligned", items[: pictures.n_most]),
            ("Least aligned", items[pictures.n_most :]),
        )
        if group
    ]
    return groups, None if span is None else list(span)
