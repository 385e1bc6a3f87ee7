"""Exchanges of labels under the null hypothesis: of rows, of groups, of label maps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import fft

from skdict._utils.types import Data
from skdict._utils.warn import warn

from .labels import (
    can_permute,
    cross,
    encode_batch,
    encode_groups,
    exchanged_classes,
)

# Neighbours are alike if Moran's I exceeds this value and this multiple of its standard
# deviation by chance, 1 / sqrt(number of pairs).
_MIN_MORAN = 0.1
_MIN_DEVIATIONS = 4


@dataclass(frozen=True)
class Exchange:
    """How labels are exchanged under the null hypothesis.

    Parameters
    ----------
    batch_ids : ndarray of shape (n_samples,), default=None
        Batch of each sample; labels stay inside their batch. None: one batch.
    group_ids : ndarray of shape (n_samples,), default=None
        Number of each sample's group, from 0 without gaps. Whole groups exchange their
        labels. None: each sample is a group.
    grid_shape : tuple of int (height, width), default=None
        Grid of the tokens of an image. If given, the samples are tokens, image by
        image, and the label map of each image is shifted as a whole. The batches are
        then the images.
    """

    batch_ids: np.ndarray | None = None
    group_ids: np.ndarray | None = None
    grid_shape: tuple[int, int] | None = None

    @property
    def by_rows(self) -> bool:
        """Whether single rows exchange their labels."""
        return self.group_ids is None and self.grid_shape is None

    def moved(self, labels: np.ndarray) -> np.ndarray:
        """Mask of the classes that an exchange can move."""
        return exchanged_classes(labels, self.batch_ids)

    def moved_rows(self, labels: np.ndarray) -> slice | np.ndarray:
        """Rows of a table of classes that are moved; all rows if none is moved."""
        moved = self.moved(labels)
        if moved.all() or not moved.any():
            return slice(None)  # gives a view; an index would copy the table
        return np.flatnonzero(moved)

    def permuted(
        self, values: np.ndarray, n_permutations: int, rng: np.random.RandomState
    ) -> Iterator[np.ndarray]:
        """Yield `values` with their entries exchanged, `n_permutations` times."""
        if self.grid_shape is not None:
            return shifts(values, self.grid_shape, n_permutations, rng)
        return permutations(values, self.batch_ids, n_permutations, rng, self.group_ids)


def exchange_of_labels(
    y: Data,
    labels: np.ndarray,
    *,
    batch: Data | None,
    groups: Data | None,
    control: Data | None,
    grid_shape: Data | None,
    tested: bool = True,
) -> Exchange:
    """Decide how the labels `y`, with the numbers `labels`, are exchanged.

    The other parameters are those of :func:`~skdict.metrics.selectivity_report`, and
    `tested` that of `plan_exchange`.
    """
    batch_ids = encode_batch(batch, labels, control)
    shared = {"y": y, "batch": batch, "control": control}
    group_ids = encode_groups(groups, len(labels), shared)
    return plan_exchange(labels, batch_ids, group_ids, grid_shape, tested=tested)


def plan_exchange(
    labels: np.ndarray,
    batch_ids: np.ndarray | None,
    group_ids: np.ndarray | None = None,
    grid_shape: Data | None = None,
    *,
    name: str = "y",
    tested: bool = True,
) -> Exchange:
    """Decide what is exchanged, and warn if the exchange does not suit the labels.

    Parameters
    ----------
    labels : ndarray of shape (n_samples,) or (n_samples, n_targets)
        Numbers of the classes, or continuous targets.
    batch_ids, group_ids : ndarray of shape (n_samples,) or None
        As in `Exchange`.
    grid_shape : array-like of int (height, width) or None
        Grid of the tokens of an image, as the user gave it.
    name : str, default="y"
        What the labels are called.
    tested : bool, default=True
        Whether there will be a null. If not, no warnings are given.

    Returns
    -------
    exchange : Exchange
    """
    if grid_shape is None:
        grid = _guess_grid(labels, batch_ids) if group_ids is None and tested else None
        if grid is not None:
            warn(
                f"{name} differs inside the batches and is alike for neighbours, if "
                f"each batch is an image of {grid[0]} x {grid[1]} tokens. The p-values "
                "are then far too small, because labels are exchanged token by token: "
                f"pass grid_shape={grid}.",
            )
        return Exchange(batch_ids, group_ids)
    grid_shape = check_grid_shape(grid_shape)
    if group_ids is not None:
        raise ValueError(
            "groups and grid_shape exclude each other: with groups the labels of whole "
            "groups are exchanged, with grid_shape the labels that differ inside an "
            "image are shifted over its grid."
        )
    image_ids = number_images(len(labels), grid_shape)
    if batch_ids is not None and not is_of_images(batch_ids, grid_shape):
        raise ValueError(
            "batch or control differs inside an image. With grid_shape the labels of "
            "an image are shifted over all of its tokens, so they cannot stay inside a "
            "batch, or apart from controls, that holds only some of these tokens. If "
            "control marks tokens of an image, score images that the whitening has not "
            "seen, without control."
        )
    if tested and is_of_images(labels, grid_shape):
        warn(
            f"{name} is the same for all tokens of each image: shifting it over the "
            "grid changes nothing, so nothing is tested. Pass groups instead, which "
            "exchanges the labels of whole images.",
        )
    return Exchange(image_ids, None, grid_shape)


def choose_exchange(
    labels: np.ndarray,
    nested_groups: Sequence[np.ndarray] = (),
    batch_ids: np.ndarray | None = None,
    grid_shape: tuple[int, int] | None = None,
) -> Exchange:
    """Choose the exchange that suits one of several labels of the same samples.

    Rows of one image are not independent. If all rows of a group share a label, the
    labels of whole groups are exchanged. If labels differ between the tokens of an
    image, its label map is shifted over the grid. If there is no grid, or if a batch
    holds only some tokens of an image, labels are exchanged row by row inside the
    groups.

    Parameters
    ----------
    labels : ndarray of shape (n_samples,)
        Numbers of the classes.
    nested_groups : sequence of ndarray of shape (n_samples,), default=()
        Groups that may share a label, the largest first: for instance the patient of
        each row, then its image.
    batch_ids : ndarray of shape (n_samples,), default=None
        As in `Exchange`. A group that lies in several batches is one in each of them.
    grid_shape : tuple of int (height, width), default=None
        Grid of the tokens of an image.

    Returns
    -------
    exchange : Exchange
    """
    for groups in nested_groups:
        if len(np.unique(groups)) == len(groups):
            continue  # each group is a single row
        inside = groups if batch_ids is None else cross(groups, batch_ids)
        if not can_permute(labels, groups):
            return Exchange(batch_ids, inside)
        batch_ids = inside
    if grid_shape is not None and (
        batch_ids is None or is_of_images(batch_ids, grid_shape)
    ):
        return Exchange(number_images(len(labels), grid_shape), None, grid_shape)
    return Exchange(batch_ids)


def check_grid_shape(grid_shape: Data) -> tuple[int, int]:
    """Height and width of the grid, as ints."""
    try:
        height, width = map(int, grid_shape)
        given = tuple(grid_shape)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"grid_shape must be (height, width), got {grid_shape!r}."
        ) from error
    is_boolean = any(isinstance(side, bool | np.bool_) for side in given)
    if is_boolean or (height, width) != given or min(height, width) < 1:
        raise ValueError(
            f"grid_shape must hold two positive whole numbers, got {given}."
        )
    return height, width


def number_images(
    n_samples: int, grid_shape: tuple[int, int], before: str = "There are "
) -> np.ndarray:
    """Number the image of each token; an error message starts with `before`."""
    n_tokens = grid_shape[0] * grid_shape[1]
    if n_samples % n_tokens:
        raise ValueError(
            f"{before}{n_samples} rows, which do not fill whole grids of "
            f"{grid_shape[0]} x {grid_shape[1]} = {n_tokens} tokens."
        )
    return np.repeat(np.arange(n_samples // n_tokens), n_tokens)


def is_of_images(values: np.ndarray, grid_shape: tuple[int, int]) -> bool:
    """Whether all tokens of each image share their value."""
    n_tokens = grid_shape[0] * grid_shape[1]
    of_image = values.reshape(-1, n_tokens, *values.shape[1:])
    return bool((of_image == of_image[:, :1]).all())


# Exchanges


def permutations(
    values: np.ndarray,
    batch_ids: np.ndarray | None,
    n_permutations: int,
    rng: np.random.RandomState,
    group_ids: np.ndarray | None = None,
) -> Iterator[np.ndarray]:
    """Yield `values` permuted inside the batches, by whole groups.

    Parameters
    ----------
    values : ndarray of shape (n_samples,)
        The same for all samples of a group.
    batch_ids : ndarray of shape (n_samples,) or None
        Batch of each sample, the same for all samples of a group. None: one batch.
    n_permutations : int
        Number of permutations.
    rng : RandomState
        Source of the permutations.
    group_ids : ndarray of shape (n_samples,), default=None
        Number of each sample's group, from 0 without gaps. None: each sample is a
        group. A permutation depends on the numbers of the groups, but not on the order
        of their samples.

    Yields
    ------
    permuted : ndarray of shape (n_samples,)
    """
    if group_ids is not None:
        values, batch_ids = of_groups(group_ids, values, batch_ids)
        for permuted in permutations(values, batch_ids, n_permutations, rng):
            yield permuted[group_ids]
        return
    if batch_ids is None:
        for _ in range(n_permutations):
            yield rng.permutation(values)
        return
    # Sorting by (batch, random key) shuffles all batches at once.
    places = np.argsort(batch_ids, kind="stable")
    for _ in range(n_permutations):
        shuffled = np.lexsort((rng.random_sample(len(values)), batch_ids))
        permuted = np.empty_like(values)
        permuted[places] = values[shuffled]
        yield permuted


def of_groups(group_ids: np.ndarray, *columns: np.ndarray | None) -> list[Any]:
    """Reduce columns that the samples of a group share to one entry for each group."""
    first = np.unique(group_ids, return_index=True)[1]
    return [None if column is None else column[first] for column in columns]


def shifts(
    values: np.ndarray,
    grid_shape: tuple[int, int],
    n_shifts: int,
    rng: np.random.RandomState,
) -> Iterator[np.ndarray]:
    """Yield the maps in `values` shifted, each image by its own random offset.

    What leaves at one edge comes in at the other. The shift by (0, 0) is as probable
    as any other.

    Parameters
    ----------
    values : ndarray of shape (n_images * height * width,)
        One value for each token, image by image and row by row of the grid.
    grid_shape : tuple of int (height, width)
    n_shifts : int
        Number of shifts.
    rng : RandomState
        Source of the offsets.

    Yields
    ------
    shifted : ndarray of shape (n_images * height * width,)
    """
    height, width = grid_shape
    maps = values.reshape(-1, height, width)
    images = np.arange(len(maps))[:, None, None]
    rows, columns = np.arange(height)[:, None], np.arange(width)
    for _ in range(n_shifts):
        offsets = rng.randint(height * width, size=(len(maps), 1, 1))
        down, right = np.divmod(offsets, width)
        shifted = maps[images, (rows - down) % height, (columns - right) % width]
        yield shifted.ravel()


def correlate_all_shifts(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Sum ``values * weights`` over the last two axes, for every shift of `values`.

    The shifts are those of `shifts`; the entry [0, 0] belongs to the unshifted values.
    """
    shape = values.shape[-2:]
    spectrum = np.conj(fft.rfft2(values)) * fft.rfft2(weights)
    return fft.irfft2(spectrum, s=shape)


# Are neighbours alike?


def are_neighbours_alike(labels: np.ndarray, grid_shape: tuple[int, int]) -> bool:
    """Whether the classes of neighbouring tokens agree more often than by chance."""
    height, width = grid_shape
    maps = labels.reshape(-1, height, width)
    pairs = [(maps[:, 1:], maps[:, :-1]), (maps[:, :, 1:], maps[:, :, :-1])]
    here, there = (
        np.concatenate([side.reshape(len(maps), -1) for side in sides], axis=1)
        for sides in zip(*pairs, strict=True)
    )
    if not here.size:
        return False
    morans_i = _Agreement(maps.reshape(len(maps), -1)).morans_i(here, there)
    return bool(morans_i > max(_MIN_MORAN, _MIN_DEVIATIONS / np.sqrt(here.size)))


def _guess_grid(
    labels: np.ndarray, batch_ids: np.ndarray | None
) -> tuple[int, int] | None:
    """Guess the grid if batches seem to be square images with alike neighbours.

    To be wrong rarely, the guess asks for consecutive batches of one size, a square
    number of rows, and for a sign of a second dimension. In a table that is sorted by
    class, rows are the more alike the nearer they are. On a grid, a token is like its
    right neighbour, and it is more like the token below it, `width` rows further, than
    like the token half as far away.
    """
    if batch_ids is None or labels.ndim > 1:
        return None
    n_batches = batch_ids.max() + 1
    side = round((len(batch_ids) / n_batches) ** 0.5)
    if side < 3 or n_batches * side * side != len(batch_ids):
        return None
    if not is_of_images(batch_ids, (side, side)):
        return None
    rows = labels.reshape(-1, side * side)
    agreement = _Agreement(rows)
    right, near, below = (
        agreement.morans_i(rows[:, lag:], rows[:, :-lag])
        for lag in (1, side // 2, side)
    )
    beyond_chance = max(_MIN_MORAN, _MIN_DEVIATIONS / np.sqrt(rows.size))
    is_grid = min(right, below, below - near) > beyond_chance
    return (side, side) if is_grid else None


class _Agreement:
    """Moran's I of classes: that of the indicators of all classes together.

    Let :math:`r` be the fraction of an image's tokens that have the class of a token,
    and :math:`s` the sum of the squared fractions of all classes. The product of two
    tokens' centred indicators is then :math:`1[y_i = y_j] - r_i - r_j + s`.
    """

    def __init__(self, labels: np.ndarray) -> None:
        n_images, n_tokens = labels.shape
        images = np.arange(n_images)[:, None]
        counts = np.zeros((n_images, labels.max() + 1))
        np.add.at(counts, (images, labels), 1)
        self.rates = counts / n_tokens
        self.squares = np.square(self.rates).sum(axis=1, keepdims=True)
        self.images = images
        self.variance = (1 - self.squares).mean()

    def morans_i(self, here: np.ndarray, there: np.ndarray) -> float:
        """Moran's I over pairs of tokens, given by their classes; a row is an image."""
        if self.variance == 0:
            return 0.0
        products = (here == there) + self.squares
        products = products - self.rates[self.images, here]
        products = products - self.rates[self.images, there]
        return products.mean() / self.variance
