"""What the card of a feature shows: histograms, neighbours and images."""

import base64

import numpy as np
from sklearn.utils import gen_batches

from skdict.images.grid import block_means

from ._features import card_labels

_MAX_BINS = 40
_MAX_ACTIVITY_BINS = 20
N_NEIGHBOURS = 5

_DEAD = "The feature fires on none of these rows."

# Cosines that are held at a time.
_BLOCK_COSINES = 2**23
_MAX_FEATURES = 64


def feature_batches(n_features, n_rows):
    """Slices of features whose cosines with all rows fit into a block."""
    size = np.clip(_BLOCK_COSINES // n_rows, 1, _MAX_FEATURES)
    return gen_batches(n_features, int(size))


def nearest_atoms(atoms, some):
    """The nearest other atoms of some atoms of unit length, and their cosines."""
    cosines = np.clip(atoms[some] @ atoms.T, -1, 1)
    places = np.arange(len(cosines))
    cosines[places, places + some.start] = -np.inf
    n = min(N_NEIGHBOURS, len(atoms) - 1)
    order = np.argsort(-cosines, axis=1, kind="stable")[:, :n]
    return order, np.take_along_axis(cosines, order, axis=1)


def extreme_images(encoded, layout, n_most, n_least):
    """The images with the largest and with the smallest mean cosine for each feature.

    Returns
    -------
    images : ndarray of shape (n_features, n_most + n_least)
        First the most aligned ones, the most extreme first on either side.
    values : ndarray of the same shape
        Their mean cosines.
    """
    rows = encoded.rows.reshape(layout.n_images, layout.per_image, -1)
    # The mean of cosines is the cosine's product with the mean of unit rows.
    means = rows.mean(axis=1, dtype=np.float64)
    images = np.empty((len(encoded.atoms), n_most + n_least), np.intp)
    values = np.empty(images.shape)
    for some in feature_batches(len(images), layout.n_images):
        scores = encoded.atoms[some] @ means.T
        most = np.argsort(-scores, axis=1, kind="stable")[:, :n_most]
        least = np.argsort(scores, axis=1, kind="stable")[:, :n_least]
        images[some] = np.hstack((most, least))
        values[some] = np.take_along_axis(scores, images[some], axis=1)
    return images, values


def histogram(values, is_best, max_bins):
    """Shares of the values in common bins, for the best label and for the rest.

    Parameters
    ----------
    values : ndarray of shape (n,)
    is_best : ndarray of shape (n,), bool, or None
    max_bins : int

    Returns
    -------
    edges : ndarray
        Multiples of a width with two significant digits, so that they are written
        with few.
    shares : ndarray of shape (n_series, n_bins)
        One series, or those of the best label and of the rest; zeros for an empty one.
    """
    low, high = float(values.min()), float(values.max())
    width = max((high - low) / (max_bins - 1), 1e-6 * max(abs(low), abs(high)), 1e-12)
    unit = 10.0 ** (np.floor(np.log10(width)) - 1)
    width = np.ceil(width / unit - 1e-9) * unit
    first = int(np.floor(low / width))
    n_bins = int(np.floor(high / width)) - first + 1
    bins = np.floor(values * (1 / width)).astype(np.intp) - first
    # Rounding may put an end a bin further out.
    np.clip(bins, 0, n_bins - 1, out=bins)
    edges = np.arange(first, first + n_bins + 1) * width
    if is_best is None:
        counts = np.bincount(bins, minlength=n_bins)[None]
    else:
        bins[~is_best] += n_bins
        counts = np.bincount(bins, minlength=2 * n_bins).reshape(2, n_bins)
    return edges, counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)


def quantise(values):
    """Values as bytes, 0 for `low` and 255 for `high`: an error of at most 1/510."""
    low = np.floor(values.min() * 1e4) / 1e4
    high = np.ceil(values.max() * 1e4) / 1e4
    span = high - low
    levels = np.rint((values - low) * (255 / span)) if span > 0 else 0 * values
    return np.clip(levels, 0, 255).astype(np.uint8), (float(low), float(high))


def gen_cards(encoded, features, layout, pictures, captions, progress):
    """Yield the card of each feature.

    Parameters
    ----------
    encoded : Encoded
    features : Features
    layout : Layout
    pictures : Pictures or None
    captions : list of str
        Of all images.
    progress : callable
        Called with the number of features that are done.
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


def _histograms(features, feature, cosines, rows, codes):
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
        edges, shares = histogram(values, which, n_bins)
        histograms.append(_histogram(title, xlabel, edges, shares, names))
    return histograms


def _histogram(title, xlabel, edges, shares, names):
    return {
        "title": title,
        "xlabel": xlabel,
        "edges": [float(f"{edge:.6g}") for edge in edges],
        "series": [
            {"name": name, "shares": np.round(series, 4).tolist()}
            for name, series in zip(names, shares, strict=True)
        ],
    }


def _heatmaps(cosines, some, layout, pictures):
    """Heatmaps of the images of each card: (n_features, n_items, height, width)."""
    if pictures is None or pictures.grid is None:
        return None
    images = pictures.images[some]
    by_image = cosines.reshape(len(cosines), layout.n_images, layout.per_image)
    maps = np.take_along_axis(by_image, images[:, :, None], axis=1)
    return reduce_heatmaps(
        maps.reshape(*images.shape, *layout.grid_shape), pictures.grid
    )


def reduce_heatmaps(maps, grid):
    """Means of the blocks that make a coarser grid."""
    if maps.shape[-2:] == tuple(grid):
        return maps
    leading = maps.shape[:-2]
    stacked = np.moveaxis(maps.reshape(-1, *maps.shape[-2:]), 0, -1)
    return np.moveaxis(block_means(stacked, grid), -1, 0).reshape(*leading, *grid)


def _images(feature, pictures, captions, heatmaps, j):
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
