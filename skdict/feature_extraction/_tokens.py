"""Embeddings of images from a layer of any torch module."""

from __future__ import annotations

from numbers import Integral
from typing import Any, Literal, Self

import numpy as np
import torch
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from skdict._utils.constraints import Interval
from skdict._utils.sklearn_private import StrOptions, fit_context
from skdict._utils.types import Data
from skdict.feature_extraction._images import (
    as_tensor,
    check_images,
    raise_if_not_finite,
)
from skdict.feature_extraction._layouts import (
    Layout,
    check_grid_shape,
    first_tensor,
    read_layout,
)
from skdict.feature_extraction._models import (
    borrowed,
    exclusive,
    floating_dtype,
    layer_output,
    unwrapped,
)
from skdict.rows import resolve_device

__all__ = ["TokenExtractor"]


class _Run:
    """An extractor's model and parameters, with checked images."""

    def __init__(self, extractor: TokenExtractor, images: Data) -> None:
        self.images, (self.n_images, _, *sides) = check_images(images)
        self.image_shape = tuple(sides)
        self.model, self.layer = unwrapped(extractor.model, extractor.layer)
        self.pool = extractor.pool
        self.skip_tokens = extractor.skip_tokens
        self.grid_shape = check_grid_shape(extractor.grid_shape)
        self.batch_size = extractor.batch_size
        self.device = resolve_device(extractor.device)
        self.dtype = floating_dtype(self.model)
        # What the layer gave for all images of the first batch, if it is that small.
        self.first: Any = None

    def check_finite(self) -> None:
        raise_if_not_finite(self.images, self.n_images, self.batch_size, self.dtype)

    def load(self, start: int, stop: int) -> Tensor:
        batch = as_tensor(self.images[start:stop], self.dtype).to(self.device)
        if not torch.isfinite(batch).all():
            self.check_finite()
        return batch

    def read_layout(self) -> tuple[Layout, int]:
        """Find the layout of the layer's output, and the number of features."""
        probes = {}
        feature_maps: set[tuple[int, int]] = set()
        with borrowed(self.model, self.device):
            pair = self.load(0, min(2, self.batch_size))
            if len(pair) < min(2, self.batch_size):
                pair = torch.cat([pair, pair])
            for n in range(1, len(pair) + 1):
                # A copy: the model may work in place.
                output = layer_output(
                    self.model, self.layer, pair[:n].clone(), feature_maps
                )
                probes[n] = tuple(first_tensor(output).shape)
            if len(pair) == min(self.batch_size, self.n_images):
                self.first = output
        layout = read_layout(
            probes,
            self.image_shape,
            feature_maps,
            skip_tokens=self.skip_tokens,
            grid_shape=self.grid_shape,
            needs_grid=self.pool is None,
        )
        return layout, probes[1][layout.axes.index("d")]

    def embed(self, layout: Layout) -> np.ndarray:
        """Embed all images."""
        embeddings = None
        is_bad = np.zeros(self.n_images, dtype=bool)
        with borrowed(self.model, self.device):
            for start in range(0, self.n_images, self.batch_size):
                stop = min(start + self.batch_size, self.n_images)
                output, self.first = self.first, None
                if output is None:
                    batch = self.load(start, stop)
                    output = layer_output(self.model, self.layer, batch)
                tokens = layout.tokens(output, stop - start, self.skip_tokens).detach()
                # Half precision, of the model or of an autocast, ends here.
                tokens = tokens if tokens.dtype == torch.float64 else tokens.float()
                if self.pool == "mean":
                    tokens = tokens.mean(dim=1, keepdim=True)
                rows = tokens.cpu().numpy()
                if embeddings is None:
                    shape = (self.n_images, *rows.shape[1:])
                    embeddings = np.empty(shape, dtype=rows.dtype)
                embeddings[start:stop] = rows
                is_bad[start:stop] = ~np.isfinite(rows).all(axis=(1, 2))
        if is_bad.any():
            raise ValueError(
                f"The layer's output is NaN or infinite for {is_bad.sum()} of "
                f"{self.n_images} images, the first is image {is_bad.argmax()}, though "
                "the images are finite. A model in half precision may overflow: try "
                "float32."
            )
        assert embeddings is not None  # there is at least one image
        return embeddings.reshape(-1, embeddings.shape[2])


class TokenExtractor(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Embed images with a layer of a torch model.

    A forward hook on the named submodule reads its output, so any
    :class:`torch.nn.Module` can be used as it is: one of timm's or transformers'
    models, or a plain one. The forward pass ends where the hook fires, so later layers
    cost nothing.

    Parameters
    ----------
    model : torch.nn.Module
        The model, called with one tensor of shape (n, channels, height, width). It runs
        in evaluation mode without gradients; its training mode, device and hooks are
        restored afterwards, even after an error. `clone` copies it, so embed the images
        once before a cross-validation rather than inside it. A model in a wrapper of
        torch.compile or DataParallel is used without the wrapper.

    layer : str
        Name of the submodule, as in `model.named_modules()`, for instance
        "blocks.7"; the empty string is the model itself. If a submodule is called
        several times in one forward pass, the first call counts.

    pool : {"mean"} or None, default="mean"
        "mean" averages the tokens of an image and gives one row per image. None keeps
        the tokens and gives one row per token.

    skip_tokens : int, default=0
        Number of tokens to drop at the front of a sequence: class, distillation or
        register tokens. Only for outputs of shape (n, tokens, d) or (tokens, n, d).

    grid_shape : tuple of int (height, width), default=None
        Grid of an image's tokens, if it is known. None finds it, or raises an error
        that asks for it. Outputs of shape (n, d, tokens) and (n, height, width, d) are
        recognised by this grid only.

    batch_size : int, default=32
        Number of images in one forward pass.

    device : str or torch.device, default="auto"
        Where to compute. "auto" takes CUDA if there is one, else MPS, else the CPU.

    Attributes
    ----------
    grid_shape_ : tuple of int (height, width), or None
        Grid of an image's tokens. With `pool=None`, row
        ``i * height * width + r * width + c`` of the output is the token at row r and
        column c of image i. None if `pool="mean"` and the tokens form no grid.

    See Also
    --------
    skdict.datasets.load_tissue_tokens : Tokens of a real image with labels.

    Notes
    -----
    These shapes of output are understood, also as the first tensor in a tuple, a
    list, a mapping or an object with `last_hidden_state`: (n, d), one token per image;
    (n, tokens, d) and (tokens, n, d), the tokens row by row; and (n, d, height, width).
    `fit` runs one image and then two: the axis that grows is that of the images. With
    ``batch_size=1`` it runs one image and takes the first axis of length 1.

    A sequence does not tell its grid. If a convolution of the model gave a grid with as
    many positions on the way to the layer, it is this grid. Otherwise it is the only
    grid that a convolution with a square kernel and one stride can make of the image,
    if the kernel is one to two strides wide or the borders are padded. If no grid fits,
    `pool=None` raises an error, because the usual reason is a class token that
    `skip_tokens` should drop. If several fit, set `grid_shape`. The same evidence
    decides whether an output of four axes may have its channels last, which is an error
    as long as `grid_shape` is None.

    With `pool=None` there are more rows than images. This suits tokens without labels,
    or, outside a Pipeline, tokens with one label each.

    An autocast of the caller reaches the model, as it does in a call by hand. The
    embeddings are float32 nevertheless, or float64 if the layer's output is.

    Several threads may use one extractor, or extractors whose models share layers:
    they wait for each other. While the extractor runs, a call of the model from
    elsewhere finds it in evaluation mode.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from torch import nn
    >>> from skdict import TokenExtractor
    >>> _ = torch.manual_seed(0)
    >>> model = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.ReLU(), nn.Flatten())
    >>> images = np.random.default_rng(0).normal(size=(5, 3, 16, 12))
    >>> TokenExtractor(model, "1").fit_transform(images).shape
    (5, 8)
    >>> extractor = TokenExtractor(model, "1", pool=None).fit(images)
    >>> extractor.grid_shape_
    (4, 3)
    >>> extractor.transform(images).shape
    (60, 8)
    """

    _parameter_constraints: dict = {
        "model": [nn.Module],
        "layer": [str],
        "pool": [StrOptions({"mean"}), None],
        "skip_tokens": [Interval(Integral, 0, None, closed="left")],
        "grid_shape": ["array-like", None],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "device": [str, torch.device],
    }

    def __init__(
        self,
        model: nn.Module,
        layer: str,
        *,
        pool: Literal["mean"] | None = "mean",
        skip_tokens: int = 0,
        grid_shape: tuple[int, int] | None = None,
        batch_size: int = 32,
        device: str | torch.device = "auto",
    ) -> None:
        self.model = model
        self.layer = layer
        self.pool = pool
        self.skip_tokens = skip_tokens
        self.grid_shape = grid_shape
        self.batch_size = batch_size
        self.device = device

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Data, y: object = None) -> Self:
        """Learn the number of features and the grid from one image and from two.

        Parameters
        ----------
        X : ndarray or torch.Tensor of shape (n_images, channels, height, width), \
                or list of arrays of shape (channels, height, width)
            The images, floating point, normalised as the model wants them.

        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted extractor.

        Raises
        ------
        ValueError
            If an image holds NaN or infinity, if there are no images or they have
            a different shape or type, if the layer is unknown or does not run, if its
            output has none of the shapes described above, or if its grid is not known.
        """
        run = _Run(self, X)
        run.check_finite()
        self._keep(run, *run.read_layout())
        return self

    @fit_context(prefer_skip_nested_validation=True)
    def fit_transform(self, X: Data, y: object = None) -> np.ndarray:
        """Fit and embed images.

        Parameters
        ----------
        X : ndarray or torch.Tensor of shape (n_images, channels, height, width), \
                or list of arrays of shape (channels, height, width)
            The images, floating point, normalised as the model wants them.

        y : None
            Ignored.

        Returns
        -------
        X_new : ndarray of shape (n_images, d) or (n_images * n_tokens, d)
            The embeddings, float32, or float64 where the layer's output is.
        """
        run = _Run(self, X)
        layout, n_features = run.read_layout()
        embeddings = run.embed(layout)
        self._keep(run, layout, n_features)
        return embeddings

    def transform(self, X: Data) -> np.ndarray:
        """Embed images.

        Parameters
        ----------
        X : ndarray or torch.Tensor of shape (n_images, channels, height, width), \
                or list of arrays of shape (channels, height, width)
            The images, floating point, normalised as the model wants them.

        Returns
        -------
        X_new : ndarray of shape (n_images, d) or (n_images * n_tokens, d)
            The embeddings, float32, or float64 where the layer's output is.

        Raises
        ------
        ValueError
            As in `fit`, and if the images give a different number of features than
            those seen in `fit`, or, with `pool=None`, another grid.
        """
        check_is_fitted(self)
        run = _Run(self, X)
        layout, n_features = self._layout, self._n_features_out
        if run.image_shape != self._image_shape:
            layout, n_features = run.read_layout()
        if n_features != self._n_features_out:
            raise ValueError(
                f"These images give {n_features} features, but the images seen in fit "
                f"gave {self._n_features_out}."
            )
        if self.pool is None and layout.grid != self.grid_shape_:
            raise ValueError(
                f"These images give a grid of {layout.grid} tokens, but the images "
                f"seen in fit gave {self.grid_shape_}."
            )
        return run.embed(layout)

    def _keep(self, run: _Run, layout: Layout, n_features: int) -> None:
        self._image_shape = run.image_shape
        self._layout = layout
        self._n_features_out = n_features
        self.grid_shape_ = layout.grid

    def __sklearn_clone__(self) -> Self:
        model: Any = self.model  # checked in fit only
        if not isinstance(model, nn.Module):
            return super().__sklearn_clone__()
        # The model must not be copied while another thread runs it.
        with exclusive(model):
            return super().__sklearn_clone__()

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        # Images have four dimensions, for which there is no tag.
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = False
        tags.transformer_tags.preserves_dtype = []
        return tags
