"""Fluorescent nuclei with a mask, as image tokens and one embedding per nucleus."""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse
from sklearn.utils import Bunch

from skdict.datasets._efficientnet import efficientnet_lite0, normalise

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["load_nuclei"]

_LAYER = "_blocks.7"
_SCALE = 4  # a nucleus of 24 pixels then spans 6 tokens
_WHITE = 99.5  # percentile: above it lie a few condensed nuclei

_DESCR = """\
Fluorescent nuclei
------------------

:Number of nuclei: 125
:Number of tokens: 16384, a grid of 128 x 128
:Number of features: 80

One image of 512 x 512 pixels of cells whose DNA is stained, and a mask that gives each
nucleus a number. It is `test_image_nuclei_2d` of the package stardist (BSD-3-Clause),
an image of the Data Science Bowl of 2018, read from the package and no part of skdict.
The nuclei are numbered anew from 1 on, in the order of stardist's numbers. Those at
the border of the image are cut.

A token is the output of block 7 of EfficientNet-lite0, trained on ImageNet, at one
place of the 128 x 128 grid that the network makes of the image at 2048 x 2048 pixels,
its grey values divided by their 99.5th percentile and clipped at 1. It stands for
4 x 4 pixels of the image, though the network looks at a wider neighbourhood. The
embedding of a nucleus is the mean of the tokens, weighted by how many pixels of the
nucleus lie under each.

Nothing is known of the nuclei but what the image shows: there is no treatment, no
control and no expert's label. Labels have to be computed from the image and the mask,
and then say no more than that computation. All nuclei come from one image.

Caicedo, J. C. et al. (2019). Nucleus segmentation across imaging experiments: the 2018
Data Science Bowl. Nature Methods, 16, 1247-1253.

Schmidt, U. et al. (2018). Cell detection with star-convex polygons. MICCAI.
"""


def _read_files() -> tuple[np.ndarray, np.ndarray]:
    """Read image and mask from the package."""
    from skimage.io import imread

    # Importing stardist would import csbdeep and numba, which the files do not need.
    package = find_spec("stardist")
    if package is None or package.origin is None:
        raise ImportError("No module named 'stardist'")
    folder = Path(package.origin).parent / "data" / "images"
    return imread(folder / "img2d.tif"), imread(folder / "mask2d.tif")


def _network_input(image: np.ndarray) -> Tensor:
    """Enlarge the image four times and normalise it: shape (1, 3, 2048, 2048)."""
    import torch

    grey = np.clip(image / np.percentile(image, _WHITE), 0, 1).astype(np.float32)
    pixels = torch.nn.functional.interpolate(
        torch.from_numpy(grey)[None, None],
        scale_factor=_SCALE,
        mode="bilinear",
        align_corners=False,
    )
    return normalise(pixels).expand(1, 3, -1, -1)


def _count_pixels(mask: np.ndarray, grid_shape: tuple[int, int]) -> sparse.csr_array:
    """Count the pixels of each object under each token; object 0 is the background."""
    height, width = mask.shape
    rows = np.arange(height) * grid_shape[0] // height
    columns = np.arange(width) * grid_shape[1] // width
    places = (rows[:, None] * grid_shape[1] + columns).ravel()
    n_objects, n_places = mask.max() + 1, grid_shape[0] * grid_shape[1]
    return sparse.coo_array(
        (np.ones(mask.size), (mask.ravel(), places)), shape=(n_objects, n_places)
    ).tocsr()


@lru_cache(maxsize=1)
def _compute_nuclei() -> tuple[Any, ...]:
    from skdict.feature_extraction import TokenExtractor

    image, mask = _read_files()
    _, numbers = np.unique(np.append(0, mask), return_inverse=True)
    mask = numbers[1:].reshape(mask.shape)
    extractor = TokenExtractor(
        efficientnet_lite0(), _LAYER, pool=None, batch_size=1, device="cpu"
    ).set_output(transform="default")
    tokens = extractor.fit_transform(_network_input(image))
    pixels = _count_pixels(mask, extractor.grid_shape_)
    weights = pixels[1:] / pixels[1:].sum(axis=1)[:, None]
    embeddings = (weights @ tokens).astype(np.float32)
    groups = pixels.toarray().argmax(axis=0)
    return image, mask, tokens, embeddings, groups, extractor.grid_shape_


def load_nuclei() -> Bunch:
    """Load fluorescent nuclei with their mask, tokens and embeddings.

    There are a real image of 125 stained nuclei, a mask that tells them apart, the
    image's tokens from a convolutional network trained on ImageNet, and the mean token
    of each nucleus. They serve to compare a dictionary with measurements from image and
    mask. The tokens are computed at the first call in a process and kept; nothing is
    downloaded.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        data : ndarray of shape (125, 80), float32
            Mean token of each nucleus; nucleus `i` of the mask has row ``i - 1``.
        image : ndarray of shape (512, 512), uint16
            The stain of the DNA.
        mask : ndarray of shape (512, 512), int
            The number of the nucleus, from 1 to 125, at each pixel; 0 elsewhere.
        tokens : ndarray of shape (16384, 80), float32
            The tokens, row by row of the grid.
        groups : ndarray of shape (16384,), int
            The nucleus to which most pixels under a token belong; 0 for the background.
        grid_shape : tuple (128, 128)
            Height and width of the grid of tokens.
        DESCR : str
            Where the data comes from, and what is not known of the nuclei.

    Raises
    ------
    ImportError
        If the optional packages with the image and the network are missing.

    See Also
    --------
    load_tissue_tokens : Tokens of a stained tissue section, with labels.
    skdict.metrics.binarize_at_quantiles : Measurements as codes.

    Examples
    --------
    >>> from skdict.datasets import load_nuclei
    >>> data = load_nuclei()  # doctest: +SKIP
    >>> data.data.shape  # doctest: +SKIP
    (125, 80)
    """
    try:
        image, mask, tokens, embeddings, groups, grid_shape = _compute_nuclei()
    except ImportError as error:
        raise ImportError(
            "load_nuclei needs stardist, scikit-image and the EfficientNet-lite0 "
            f"packages, and one is missing ({error}). Install them with "
            "`pip install 'skdict[cells]'`."
        ) from error
    # Copies, because the next caller must not see what this one changes.
    return Bunch(
        data=embeddings.copy(),
        image=image.copy(),
        mask=mask.copy(),
        tokens=tokens.copy(),
        groups=groups.copy(),
        grid_shape=grid_shape,
        DESCR=_DESCR,
    )
