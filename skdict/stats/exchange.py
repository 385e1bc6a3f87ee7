"""What is exchanged under the null hypothesis: labels of rows, of units, or maps."""

from dataclasses import dataclass

import numpy as np
from scipy import fft

from skdict._utils.warn import warn

from .labels import exchanged_classes

# Neighbours are alike where Moran's I exceeds this, and chance by as many deviations.
_MIN_MORAN = 0.1
_MIN_DEVIATIONS = 4


@dataclass(frozen=True)
class Exchange:
    """How labels are exchanged under the null hypothesis.

    Parameters
    ----------
    group_ids : ndarray of shape (n_samples,), default=None
        Group of each sample; labels stay inside their group. None: one group.
    unit_ids : ndarray of shape (n_samples,), default=None
        Unit of each sample; whole units exchange their labels. None: each sample is a
        unit.
    grid_shape : tuple of int (height, width), default=None
        Where given, the samples are tokens, image by image, and the label map of each
        image is shifted as a whole. The groups are then the images.
    """

    group_ids: np.ndarray | None = None
    unit_ids: np.ndarray | None = None
    grid_shape: tuple[int, int] | None = None

    @property
    def by_rows(self):
        """Whether single rows exchange their labels."""
        return self.unit_ids is None and self.grid_shape is None

    def moved(self, labels):
        """Which classes an exchange can move."""
        return exchanged_classes(labels, self.group_ids)

    def moved_rows(self, labels):
        """Which rows of a table of classes are moved; all where none is."""
        moved = self.moved(labels)
        if moved.all() or not moved.any():
            return slice(None)  # a view, where an index copies the table
        return np.flatnonzero(moved)

    def permuted(self, values, n_permutations, rng):
        """Yield `values` with their entries exchanged, `n_permutations` times."""
        if self.grid_shape is not None:
            return shifts(values, self.grid_shape, n_permutations, rng)
        return permutations(values, self.group_ids, n_permutations, rng, self.unit_ids)


def plan_exchange(
    labels, group_ids, unit_ids=None, grid_shape=None, *, name="y", tested=True
):
    """Decide what is exchanged. Called by public functions, for the warnings' sake.

    Parameters
    ----------
    labels : ndarray of shape (n_samples,) or (n_samples, n_targets)
        Numbers of the classes, or continuous targets.
    group_ids, unit_ids : ndarray of shape (n_samples,) or None
        As in `Exchange`.
    grid_shape : array-like of int (height, width) or None
        Grid of the tokens of an image, as the user gave it.
    name : str, default="y"
        What the labels are called.
    tested : bool, default=True
        Whether there will be a null; without one nothing is warned of.

    Returns
    -------
    exchange : Exchange
    """
    if grid_shape is None:
        grid = _guess_grid(labels, group_ids) if unit_ids is None and tested else None
        if grid is not None:
            warn(
                f"{name} differs inside the groups and is alike for neighbours, if "
                f"each group is an image of {grid[0]} x {grid[1]} tokens. Exchanged "
                f"token by token, the p-values are far too small then: pass "
                f"grid_shape={grid}.",
            )
        return Exchange(group_ids, unit_ids)
    grid_shape = check_grid_shape(grid_shape)
    if unit_ids is not None:
        raise ValueError(
            "units and grid_shape exclude each other: with units whole units "
            "exchange their labels, with grid_shape the labels that differ inside an "
            "image are shifted over its grid."
        )
    image_ids = number_images(len(labels), grid_shape)
    if group_ids is not None and not is_of_images(group_ids, grid_shape):
        raise ValueError(
            "groups or control differs inside an image. With grid_shape the labels of "
            "an image are shifted over all of its tokens, so that they cannot stay "
            "inside a group, or apart from controls, that holds only some of them. "
            "Where control marks tokens of an image, score images that the whitening "
            "has not seen, without control."
        )
    if tested and is_of_images(labels, grid_shape):
        warn(
            f"{name} is the same for all tokens of each image: shifting it over the "
            "grid changes nothing, so nothing is tested. Pass units instead, which "
            "exchanges the labels of whole images.",
        )
    return Exchange(image_ids, None, grid_shape)


def check_grid_shape(grid_shape):
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


def number_images(n_samples, grid_shape, before="There are "):
    """The image of each token; an error starts with `before`."""
    n_tokens = grid_shape[0] * grid_shape[1]
    if n_samples % n_tokens:
        raise ValueError(
            f"{before}{n_samples} rows, which do not fill whole grids of "
            f"{grid_shape[0]} x {grid_shape[1]} = {n_tokens} tokens."
        )
    return np.repeat(np.arange(n_samples // n_tokens), n_tokens)


def is_of_images(values, grid_shape):
    """Whether all tokens of each image share their value."""
    n_tokens = grid_shape[0] * grid_shape[1]
    of_image = values.reshape(-1, n_tokens, *values.shape[1:])
    return bool((of_image == of_image[:, :1]).all())


# Exchanges


def permutations(values, group_ids, n_permutations, rng, unit_ids=None):
    """Yield `values` permuted: inside the groups, and units as a whole.

    Parameters
    ----------
    values : ndarray of shape (n_samples,)
        The same for all samples of a unit.
    group_ids : ndarray of shape (n_samples,) or None
        Group of each sample, the same for all samples of a unit. None: one group.
    n_permutations : int
        Number of permutations.
    rng : RandomState
        Source of the permutations; units are drawn in the order of their numbers.
    unit_ids : ndarray of shape (n_samples,), default=None
        Unit of each sample. None: each sample is one.

    Yields
    ------
    permuted : ndarray of shape (n_samples,)
    """
    if unit_ids is not None:
        values, group_ids = of_units(unit_ids, values, group_ids)
        for permuted in permutations(values, group_ids, n_permutations, rng):
            yield permuted[unit_ids]
        return
    if group_ids is None:
        for _ in range(n_permutations):
            yield rng.permutation(values)
        return
    # Sorting by (group, random key) shuffles all groups at once.
    places = np.argsort(group_ids, kind="stable")
    for _ in range(n_permutations):
        shuffled = np.lexsort((rng.random_sample(len(values)), group_ids))
        permuted = np.empty_like(values)
        permuted[places] = values[shuffled]
        yield permuted


def of_units(unit_ids, *columns):
    """One entry for each unit of columns that its samples share."""
    first = np.unique(unit_ids, return_index=True)[1]
    return [None if column is None else column[first] for column in columns]


def shifts(values, grid_shape, n_shifts, rng):
    """Yield the maps in `values` shifted, each image by its own random offset.

    What leaves at one edge comes in at the other. The shift by nothing is drawn as
    often as any other.

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


def correlate_all_shifts(values, weights):
    """Sum of ``values * weights`` for every shift of `values`, over the last two axes.

    Shifts are those of `shifts`; the entry [0, 0] is the sum without one.
    """
    shape = values.shape[-2:]
    spectrum = np.conj(fft.rfft2(values)) * fft.rfft2(weights)
    return fft.irfft2(spectrum, s=shape)


# Are neighbours alike?


def are_neighbours_alike(labels, grid_shape):
    """Whether the classes of neighbouring tokens agree more than by chance."""
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


def _guess_grid(labels, group_ids):
    """Side lengths of the images that groups seem to be, where neighbours are alike.

    A guess, so it must not be wrong often: the groups follow each other, all of one
    square number of rows. In a table in which the rows of a class stand together, rows
    near to each other are alike, and the nearer the more; on a grid, a token is like
    its right neighbour, and more like the one below it, `width` rows further, than
    like the token half as far.
    """
    if group_ids is None or labels.ndim > 1:
        return None
    n_groups = group_ids.max() + 1
    side = round((len(group_ids) / n_groups) ** 0.5)
    if side < 3 or n_groups * side * side != len(group_ids):
        return None
    if not is_of_images(group_ids, (side, side)):
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

    With the share :math:`r` of a token's class in its image and the sum :math:`s` of
    the squared shares, the product of two tokens' centred indicators is
    :math:`1[y_i = y_j] - r_i - r_j + s`.
    """

    def __init__(self, labels):
        n_images, n_tokens = labels.shape
        images = np.arange(n_images)[:, None]
        counts = np.zeros((n_images, labels.max() + 1))
        np.add.at(counts, (images, labels), 1)
        self.rates = counts / n_tokens
        self.squares = np.square(self.rates).sum(axis=1, keepdims=True)
        self.images = images
        self.variance = (1 - self.squares).mean()

    def morans_i(self, here, there):
        """Over pairs of tokens, given by their classes; one row for each image."""
        if self.variance == 0:
            return 0.0
        products = (here == there) + self.squares
        products = products - self.rates[self.images, here]
        products = products - self.rates[self.images, there]
        return products.mean() / self.variance
