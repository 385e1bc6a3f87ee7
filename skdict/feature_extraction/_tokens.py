"""Embeddings of images from a layer of any torch module."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from itertools import chain
from math import isqrt
from numbers import Integral

import numpy as np
import torch
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted
from torch import nn

from skdict.data import resolve_device

__all__ = ["TokenExtractor"]


# The images: an ndarray, a tensor or a list, sliced and converted batch by batch.


def _check_images(images):
    """Check shapes and types; return the images and their shape (n, c, h, w)."""
    if isinstance(images, list | tuple):
        if len(images) == 0:
            raise ValueError("There are no images: the list is empty.")
        images = [x if isinstance(x, torch.Tensor) else np.asarray(x) for x in images]
        first = tuple(images[0].shape)
        for i, image in enumerate(images):
            if tuple(image.shape) != first:
                raise ValueError(
                    "All images must have the same shape: image 0 has shape "
                    f"{first}, image {i} has shape {tuple(image.shape)}."
                )
        shape = (len(images), *first)
        dtypes = {image.dtype for image in images}
    elif all(hasattr(images, name) for name in ("shape", "dtype", "__getitem__")):
        shape, dtypes = tuple(images.shape), {images.dtype}
    else:
        raise TypeError(
            "Images must be an array or tensor of shape (n_images, channels, "
            "height, width), or a list of arrays of shape (channels, height, "
            f"width), got {type(images).__name__}."
        )

    if len(shape) != 4:
        raise ValueError(
            "Images must have shape (n_images, channels, height, width), got "
            f"{len(shape)} dimensions: {shape}."
        )
    if 0 in shape:
        raise ValueError(f"There are no images or no pixels: the shape is {shape}.")
    for dtype in dtypes:
        is_float = (
            dtype.is_floating_point
            if isinstance(dtype, torch.dtype)
            else np.issubdtype(dtype, np.floating)
        )
        if not is_float:
            raise ValueError(
                "Images must be floating point, scaled and normalised as the model "
                f"wants them, got {dtype}."
            )
    return images, shape


def _as_tensor(batch, dtype):
    """Copy of a slice of the images as one tensor.

    Always a copy: a model whose first layer works in place must not change the
    caller's images.
    """
    if isinstance(batch, list):
        return torch.stack([_as_tensor(image, dtype) for image in batch])
    if isinstance(batch, torch.Tensor):
        return batch.detach().to(dtype, copy=True)
    # numpy makes the copy: torch refuses foreign byte orders and negative strides,
    # and warns about memory that is read-only.
    np_dtype = np.float64 if dtype == torch.float64 else np.float32
    with np.errstate(over="ignore"):
        return torch.from_numpy(np.array(batch, dtype=np_dtype, order="C")).to(dtype)


def _raise_if_not_finite(images, n_images, batch_size, dtype):
    """Look through all images and raise if any holds a NaN or infinity."""
    bad: list[int] = []
    for start in range(0, n_images, batch_size):
        batch = _as_tensor(images[start : start + batch_size], dtype)
        is_bad = ~torch.isfinite(batch).flatten(1).all(dim=1)
        bad.extend((start + torch.nonzero(is_bad).ravel()).tolist())
    if bad:
        raise ValueError(
            f"{len(bad)} of {n_images} images hold values that are NaN, infinite or "
            f"too large for {dtype}; the first is image {bad[0]}."
        )


# The model: borrowed, and given back as it was.


def _find_submodule(model, layer):
    try:
        return model.get_submodule(layer)
    except AttributeError:
        names = [name for name, _ in model.named_modules() if name]
        close = get_close_matches(layer, names, n=5, cutoff=0.4)
        hint = f"close names are {close}" if close else f"it has {names[:10]}"
        raise ValueError(
            f"layer={layer!r} names no submodule of {type(model).__name__}; {hint}."
        ) from None


def _floating_dtype(model):
    for parameter in model.parameters():
        if parameter.is_floating_point():
            return parameter.dtype
    return torch.float32


@contextmanager
def _borrowed(model, device) -> Iterator[None]:
    """Evaluation mode on `device`; mode and device are restored on the way out.

    The mode is kept per submodule: part of a model may be frozen in evaluation
    mode while the rest is in training mode.
    """
    modes = [(module, module.training) for module in model.modules()]
    homes = {t.device for t in chain(model.parameters(), model.buffers())}
    if len(homes) > 1:
        raise ValueError(
            "The model's parameters and buffers must lie on one device, got "
            f"{sorted(map(str, homes))}."
        )
    # Asking for "cuda" when the model is on "cuda:0" is no move.
    moves = bool(homes) and torch.empty(0, device=device).device not in homes
    try:
        model.eval()
        if moves:
            model.to(device)
        yield
    finally:
        if moves:
            model.to(homes.pop())
        for module, training in modes:
            module.training = training


class _StopForward(BaseException):
    """Ends a forward pass once the layer's output is known.

    Not an Exception, so that no handler in the model's own code can catch it.
    """


def _layer_output(model, submodule, batch):
    """Output of `submodule` when `model` runs on `batch`, at its first call."""
    outputs = []

    def keep_and_stop(module, args, output):
        outputs.append(output)
        raise _StopForward

    handle = submodule.register_forward_hook(keep_and_stop)
    try:
        # Not inference_mode: a tensor that the model caches during the pass, or a
        # lazy parameter that it creates, would be unusable in training later.
        with torch.no_grad():
            model(batch)
    except _StopForward:
        return outputs[0]
    except Exception as error:
        if batch.shape[-1] in (1, 3, 4) and batch.shape[1] > 4:
            error.add_note(
                f"The images have shape {tuple(batch.shape[1:])}: channels last? They "
                "must come first, as in np.moveaxis(images, -1, 1)."
            )
        raise
    finally:
        handle.remove()
    raise ValueError(
        "The layer did not run in the model's forward pass, so it has no output."
    )


# The layer's output: tokens of shape (n_images, n_tokens, d).


def _first_tensor(output):
    """The first tensor in a tensor, tuple, list, mapping or ModelOutput."""
    if isinstance(output, torch.Tensor):
        return output
    if isinstance(output, Mapping):
        parts = output.values()
    elif isinstance(output, Sequence) and not isinstance(output, str | bytes):
        parts = output
    else:
        parts = [getattr(output, "last_hidden_state", None)]
    for part in parts:
        if part is not None and (tensor := _first_tensor(part)) is not None:
            return tensor
    return None


def _infer_grid(n_tokens, image_shape):
    """Height and width of the grid that `n_tokens` tokens of an image form.

    A grid of whole patches of one square size is looked for first, then a
    square one; None where the number of tokens allows neither.
    """
    height, width = image_shape
    for h in range(1, min(n_tokens, height) + 1):
        if n_tokens % h == 0 and n_tokens // h <= width:
            w = n_tokens // h
            patch = min(height // h, width // w)
            if (height // patch, width // patch) == (h, w):
                return h, w
    side = isqrt(n_tokens)
    return (side, side) if side * side == n_tokens else None


def _as_tokens(output, n_images, image_shape, skip_tokens):
    """Bring a layer's output to (n_images, n_tokens, d); find the tokens' grid."""
    tensor = _first_tensor(output)
    if tensor is None:
        raise ValueError(
            f"The layer's output holds no tensor: it is a {type(output).__name__}."
        )
    if tensor.ndim not in (2, 3, 4) or tensor.shape[0] != n_images or 0 in tensor.shape:
        raise ValueError(
            "The layer's output must have shape (n, d), (n, tokens, d) or "
            f"(n, d, height, width) with n = {n_images} images, got "
            f"{tuple(tensor.shape)}."
        )
    if tensor.ndim != 3 and skip_tokens:
        raise ValueError(
            f"skip_tokens={skip_tokens} needs an output of shape (n, tokens, d), "
            f"got {tuple(tensor.shape)}."
        )

    if tensor.ndim == 4:
        return tensor.flatten(2).transpose(1, 2), tuple(tensor.shape[2:])
    if tensor.ndim == 2:
        return tensor[:, None, :], (1, 1)
    n_tokens = tensor.shape[1] - skip_tokens
    if n_tokens < 1:
        raise ValueError(
            f"skip_tokens={skip_tokens} leaves none of the {tensor.shape[1]} tokens."
        )
    return tensor[:, skip_tokens:], _infer_grid(n_tokens, image_shape)


def _require_grid(grid, n_tokens, image_shape, skip_tokens):
    if grid is not None:
        return
    message = (
        f"pool=None needs tokens that form a grid, got {n_tokens} tokens for images "
        f"of {image_shape[0]} x {image_shape[1]} pixels."
    )
    # At most a class token, a distillation token and a few register tokens.
    for extra in range(1, min(9, n_tokens)):
        if _infer_grid(n_tokens - extra, image_shape) is not None:
            message += (
                f" Class or register tokens at the front? skip_tokens="
                f"{skip_tokens + extra} leaves a grid."
            )
            break
    raise ValueError(message)


def _embed(model, layer, images, *, pool, skip_tokens, batch_size, device):
    """Embeddings of all images, float32, and the tokens' grid (None: no grid)."""
    images, (n_images, _, *image_shape) = _check_images(images)
    submodule = _find_submodule(model, layer)
    dtype = _floating_dtype(model)

    embeddings = grid = None
    is_bad = np.zeros(n_images, dtype=bool)
    with _borrowed(model, device):
        for start in range(0, n_images, batch_size):
            stop = min(start + batch_size, n_images)
            batch = _as_tensor(images[start:stop], dtype).to(device)
            if not torch.isfinite(batch).all():
                _raise_if_not_finite(images, n_images, batch_size, dtype)
            tokens, grid = _as_tokens(
                _layer_output(model, submodule, batch),
                stop - start,
                image_shape,
                skip_tokens,
            )
            tokens = tokens.detach().float()
            if pool == "mean":
                tokens = tokens.mean(dim=1, keepdim=True)
            else:
                _require_grid(grid, tokens.shape[1], image_shape, skip_tokens)
            if embeddings is None:
                embeddings = np.empty((n_images, *tokens.shape[1:]), dtype=np.float32)
            embeddings[start:stop] = tokens.cpu().numpy()
            is_bad[start:stop] = ~np.isfinite(embeddings[start:stop]).all(axis=(1, 2))

    if is_bad.any():
        raise ValueError(
            f"The layer's output is NaN or infinite for {is_bad.sum()} of {n_images} "
            f"images, the first is image {is_bad.argmax()}, though the images are "
            "finite. A model in half precision may overflow: try float32."
        )
    return embeddings.reshape(-1, embeddings.shape[2]), grid


class TokenExtractor(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Embed images with a layer of a torch model.

    A forward hook on the named submodule reads its output, so any
    :class:`torch.nn.Module` can be used as it is: one of timm's or transformers'
    models, or a plain one. The forward pass ends where the hook fires, and later
    layers cost nothing.

    Parameters
    ----------
    model : torch.nn.Module
        The model, called with one tensor of shape (n, channels, height, width). It
        is used in evaluation mode without gradients; training mode, device and
        hooks are afterwards as they were before, also after an error. `clone`
        copies it, so embed the images once before a cross-validation rather than
        inside of it.

    layer : str
        Name of the submodule, as in `model.named_modules()`, for instance
        "blocks.7"; the empty string is the model itself. Where a submodule is
        called several times in one pass, the first call counts.

    pool : {"mean"} or None, default="mean"
        "mean" averages the tokens of an image and gives one row an image. None
        keeps the tokens and gives one row a token.

    skip_tokens : int, default=0
        Number of tokens to drop at the front of a sequence: class, distillation or
        register tokens. Only for outputs of shape (n, tokens, d).

    batch_size : int, default=32
        Number of images in one forward pass.

    device : str or torch.device, default="auto"
        Where to compute. "auto" takes CUDA where there is one, then MPS, then the
        CPU.

    Attributes
    ----------
    grid_shape_ : tuple of int (height, width), or None
        Layout of an image's tokens. Row ``i * height * width + r * width + c`` of
        the output for `pool=None` is the token at row r and column c of image i.
        None where `pool="mean"` and the tokens form no grid.

    See Also
    --------
    skdict.datasets.load_tissue_tokens : Tokens of a real image with labels.

    Notes
    -----
    Three shapes of output are understood, also as the first tensor in a tuple, a
    list, a mapping or an object with `last_hidden_state`: (n, d), one token an
    image; (n, tokens, d), the tokens row by row; and (n, d, height, width). A layer
    with its channels last, (n, height, width, d), cannot be told from the latter:
    take another layer.

    A sequence carries no layout. A grid of whole square patches that covers the
    image is looked for first, then a square grid. Where neither exists,
    `pool=None` raises an error, because the usual reason is a class token that
    `skip_tokens` should drop.

    `fit` runs the first batch to learn the number of features and the grid. With
    `pool=None` the number of rows changes: this suits tokens without labels, or
    labels of one a token outside of a Pipeline.

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
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "device": [str, torch.device],
    }

    def __init__(
        self,
        model,
        layer,
        *,
        pool="mean",
        skip_tokens=0,
        batch_size=32,
        device="auto",
    ):
        self.model = model
        self.layer = layer
        self.pool = pool
        self.skip_tokens = skip_tokens
        self.batch_size = batch_size
        self.device = device

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Learn the number of features and the grid from the first batch.

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
            If an image holds NaN or infinity, the images have another shape or
            type, there are none, the layer is unknown or its output has another
            shape than the ones described above.
        """
        images, shape = _check_images(X)
        _raise_if_not_finite(
            images, shape[0], self.batch_size, _floating_dtype(self.model)
        )
        self._fit_embed(images[: self.batch_size])
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def fit_transform(self, X, y=None):
        """Fit and embed images, with one pass over each.

        Parameters
        ----------
        X : ndarray or torch.Tensor of shape (n_images, channels, height, width), \
                or list of arrays of shape (channels, height, width)
            The images, floating point, normalised as the model wants them.

        y : None
            Ignored.

        Returns
        -------
        X_new : ndarray of shape (n_images, d) or (n_images * n_tokens, d), float32
            The embeddings.
        """
        return self._fit_embed(X)

    def transform(self, X):
        """Embed images.

        Parameters
        ----------
        X : ndarray or torch.Tensor of shape (n_images, channels, height, width), \
                or list of arrays of shape (channels, height, width)
            The images, floating point, normalised as the model wants them.

        Returns
        -------
        X_new : ndarray of shape (n_images, d) or (n_images * n_tokens, d), float32
            The embeddings.

        Raises
        ------
        ValueError
            As in `fit`, and if the images give another number of features, or,
            for `pool=None`, another grid than the images seen in `fit`.
        """
        check_is_fitted(self)
        embeddings, grid = self._embed(X)
        if embeddings.shape[1] != self._n_features_out:
            raise ValueError(
                f"These images give {embeddings.shape[1]} features, but the images "
                f"seen in fit gave {self._n_features_out}."
            )
        if self.pool is None and grid != self.grid_shape_:
            raise ValueError(
                f"These images give a grid of {grid} tokens, but the images seen in "
                f"fit gave {self.grid_shape_}."
            )
        return embeddings

    def _fit_embed(self, images):
        embeddings, grid = self._embed(images)
        self.grid_shape_ = grid
        self._n_features_out = embeddings.shape[1]
        return embeddings

    def _embed(self, images):
        return _embed(
            self.model,
            self.layer,
            images,
            pool=self.pool,
            skip_tokens=self.skip_tokens,
            batch_size=self.batch_size,
            device=resolve_device(self.device),
        )

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        # Images have four dimensions, for which there is no tag.
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = False
        tags.transformer_tags.preserves_dtype = []
        return tags
