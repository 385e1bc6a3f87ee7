"""Which axis of a layer's output holds images, tokens and features."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "Layout",
    "check_grid_shape",
    "first_tensor",
    "read_layout",
    "square_stride_grids",
]

# No model has more class, distillation and register tokens at the front of a sequence.
_MOST_EXTRA_TOKENS = 8

_SHAPES = (
    "(n, d), (n, tokens, d), (tokens, n, d) or (n, d, height, width) with n images"
)


def check_grid_shape(grid_shape: Any) -> tuple[int, int] | None:
    """Check the height and width of a grid; None stays None."""
    if grid_shape is None:
        return None
    sides = tuple(grid_shape)
    if (
        len(sides) != 2
        or not all(isinstance(s, Integral) and not isinstance(s, bool) for s in sides)
        or min(sides) < 1
    ):
        raise ValueError(
            "grid_shape must be (height, width), two positive whole numbers, got "
            f"{grid_shape!r}."
        )
    return int(sides[0]), int(sides[1])


def first_tensor(output: Any) -> Tensor:
    """Return the first tensor in a tensor, tuple, list, mapping or ModelOutput."""
    tensor = _search_tensor(output)
    if tensor is None:
        raise ValueError(
            f"The layer's output holds no tensor: it is a {type(output).__name__}. "
            "Take another layer."
        )
    if tensor.is_nested or tensor.layout != torch.strided or tensor.is_quantized:
        raise ValueError(
            "The layer's output must be a plain tensor, got one that is nested, sparse "
            "or quantized. Take another layer."
        )
    if not tensor.is_floating_point():
        raise ValueError(
            f"The layer's output must be floating point, got {tensor.dtype}. Take "
            "another layer."
        )
    return tensor


def _search_tensor(output: Any) -> Tensor | None:
    if isinstance(output, Tensor):
        return output
    parts: Iterable[Any]
    if isinstance(output, Mapping):
        parts = output.values()
    elif isinstance(output, Sequence) and not isinstance(output, str | bytes):
        parts = output
    else:
        parts = [getattr(output, "last_hidden_state", None)]
    for part in parts:
        if part is not None and (tensor := _search_tensor(part)) is not None:
            return tensor
    return None


@dataclass(frozen=True)
class Layout:
    """The axes of an output, and the tokens' grid.

    Parameters
    ----------
    axes : str
        A letter for each axis: n images, t tokens, h rows and w columns of the grid,
        d features.
    grid : tuple of int (height, width), or None
        Grid of the tokens; None if it is not known.
    """

    axes: str
    grid: tuple[int, int] | None

    def tokens(self, output: Any, n_images: int, skip_tokens: int) -> Tensor:
        """Bring the layer's output to the shape (n_images, n_tokens, d)."""
        tensor = first_tensor(output)
        shape = tuple(tensor.shape)
        if len(shape) != len(self.axes) or shape[self.axes.index("n")] != n_images:
            raise ValueError(
                f"The layer's output for {n_images} images has shape {shape}, but in "
                f"fit the axes were ({', '.join(self.axes)}) with n images."
            )
        middle = self.axes.replace("n", "").replace("d", "")
        tensor = tensor.permute([self.axes.index(axis) for axis in f"n{middle}d"])
        tensor = tensor.reshape(n_images, -1, tensor.shape[-1])
        return tensor[:, skip_tokens:]


def read_layout(
    probes: Mapping[int, tuple[int, ...]],
    image_shape: Sequence[int],
    feature_maps: set[tuple[int, int]],
    *,
    skip_tokens: int = 0,
    grid_shape: tuple[int, int] | None = None,
    needs_grid: bool = False,
) -> Layout:
    """Find the layout of an output from its shapes for some numbers of images.

    Parameters
    ----------
    probes : dict of int to tuple
        Shape of the output for different numbers of images. Two numbers show which axis
        is that of the images. With one alone, no batch of another size may follow.
    image_shape : (height, width)
        Pixels of an image.
    feature_maps : set of (height, width)
        Grids of the feature maps on the way to the layer.
    skip_tokens : int, default=0
        Number of tokens at the front of a sequence that lie on no grid.
    grid_shape : (height, width), default=None
        The grid, if it is known; None looks for the only one that fits.
    needs_grid : bool, default=False
        Whether a sequence without a grid is an error.

    Raises
    ------
    ValueError
        If no layout fits, or if two do. The message says which parameter to set.
    """
    batch_axis = _find_batch_axis(probes)
    shape = probes[max(probes)]
    if len(shape) not in (2, 3, 4) or 0 in shape or batch_axis > (len(shape) == 3):
        raise ValueError(
            f"The layer's output must have shape {_SHAPES}, got {shape} for "
            f"{max(probes)} images. Take another layer."
        )
    if len(shape) != 3 and skip_tokens:
        raise ValueError(
            f"skip_tokens={skip_tokens} needs an output of shape (n, tokens, d), "
            f"got {shape}."
        )
    if len(shape) == 2:
        if grid_shape not in (None, (1, 1)):
            raise ValueError(
                f"grid_shape={grid_shape} needs an output with tokens, got {shape}: "
                "one vector for each image."
            )
        return Layout("nd", (1, 1))
    if len(shape) == 4:
        return _read_map(shape, image_shape, feature_maps, grid_shape)
    return _read_sequence(
        shape,
        batch_axis,
        image_shape,
        feature_maps,
        skip_tokens,
        grid_shape,
        needs_grid,
    )


def _find_batch_axis(probes: Mapping[int, tuple[int, ...]]) -> int:
    """Find the axis whose length is always the number of images."""
    shapes = list(probes.values())
    got = " and ".join(f"{shape} for {n} images" for n, shape in probes.items())
    if len({len(shape) for shape in shapes}) > 1:
        raise ValueError(
            f"The layer's output loses an axis for some numbers of images, got {got}, "
            "as after a squeeze. Take another layer."
        )
    if len(shapes) > 1 and len(set(shapes)) == 1:
        raise ValueError(
            "The layer's output does not grow with the number of images, so it says "
            f"nothing of them (position embeddings?), got {got}. Take another layer."
        )
    for axis in range(len(shapes[0])):
        others = {shape[:axis] + shape[axis + 1 :] for shape in shapes}
        lengths = [shape[axis] for shape in shapes]
        if len(others) == 1 and lengths == list(probes):
            return axis
    merged = (
        ""
        if len(shapes[0]) < 2
        else (
            " Where images and tokens, or windows of tokens, share an axis, take a "
            "layer around it."
        )
    )
    raise ValueError(
        f"The layer's output must have shape {_SHAPES}, got {got}.{merged}"
    )


def _read_map(
    shape: tuple[int, ...],
    image_shape: Sequence[int],
    feature_maps: set[tuple[int, int]],
    grid_shape: tuple[int, int] | None,
) -> Layout:
    """Read four axes: channels first, as in torch's convolutions, or channels last."""
    first, last = (shape[2], shape[3]), (shape[1], shape[2])
    if grid_shape is not None:
        if grid_shape == first:
            return Layout("ndhw", first)
        if grid_shape == last:
            return Layout("nhwd", last)
        raise ValueError(
            f"grid_shape={grid_shape} is not the grid of an output of shape {shape}: "
            f"{first} with its channels first, {last} with its channels last."
        )

    def evidence(grid: tuple[int, int]) -> int:
        return 2 * (grid in feature_maps) or int(_fits(grid, image_shape))

    if first != last and 0 < evidence(last) >= evidence(first):
        raise ValueError(
            f"The layer's output has shape {shape}, and its channels may be last: set "
            f"grid_shape={last} if they are, grid_shape={first} if they come first."
        )
    return Layout("ndhw", first)


def _read_sequence(
    shape: tuple[int, ...],
    batch_axis: int,
    image_shape: Sequence[int],
    feature_maps: set[tuple[int, int]],
    skip_tokens: int,
    grid_shape: tuple[int, int] | None,
    needs_grid: bool,
) -> Layout:
    """Read three axes: the tokens come row by row of a grid, if there is one."""
    axes = "tnd" if batch_axis else "ntd"
    length = shape[1 - batch_axis]
    n_tokens = length - skip_tokens
    if grid_shape is not None:
        wanted = grid_shape[0] * grid_shape[1]
        if n_tokens == wanted:
            return Layout(axes, grid_shape)
        if shape[2] == wanted and axes == "ntd" and not skip_tokens:
            return Layout("ndt", grid_shape)
        raise ValueError(
            f"grid_shape={grid_shape} has {wanted} tokens, but there are {n_tokens}: "
            f"the layer's output has shape {shape} and skip_tokens={skip_tokens}."
            + (
                f" skip_tokens={length - wanted} leaves {wanted}."
                if length > wanted
                else ""
            )
        )
    if n_tokens < 1:
        raise ValueError(
            f"skip_tokens={skip_tokens} leaves none of the {length} tokens."
        )

    seen = {h * w: (h, w) for h, w in feature_maps if h * w > 1}
    # Numbers of extra tokens at the front that leave a grid that was seen.
    n_extra = [e for e in range(_MOST_EXTRA_TOKENS + 1) if n_tokens - e in seen]
    if not n_extra and shape[2] in seen and axes == "ntd":
        raise ValueError(
            f"The layer's output has shape {shape}, and its last axis is as long as "
            f"the grid of {seen[shape[2]]} that a convolution gave: set grid_shape to "
            "it if the features come before the tokens, else to the grid of the tokens."
        )
    grids = [g for g in feature_maps if g[0] * g[1] == n_tokens]
    if not grids and not n_extra:
        grids = square_stride_grids(n_tokens, image_shape)
    if len(grids) == 1:
        return Layout(axes, grids[0])
    if not needs_grid:
        return Layout(axes, None)
    pixels = f"{image_shape[0]} x {image_shape[1]} pixels"
    if grids:
        raise ValueError(
            f"pool=None needs the grid of the tokens: {n_tokens} tokens for images of "
            f"{pixels} may be any of {sorted(grids)}. Set grid_shape."
        )
    hint = _extra_tokens_hint(n_tokens, image_shape, n_extra, skip_tokens)
    raise ValueError(
        f"pool=None needs tokens that form a grid, got {n_tokens} tokens for images of "
        f"{pixels}.{hint} Where the tokens do form a grid, set grid_shape."
    )


def _extra_tokens_hint(
    n_tokens: int, image_shape: Sequence[int], n_extra: list[int], skip_tokens: int
) -> str:
    for extra in n_extra or range(1, min(_MOST_EXTRA_TOKENS + 1, n_tokens)):
        if n_extra or square_stride_grids(n_tokens - extra, image_shape):
            return (
                f" Class or register tokens at the front? skip_tokens="
                f"{skip_tokens + extra} leaves a grid."
            )
    return ""


def square_stride_grids(
    n_tokens: int, image_shape: Sequence[int]
) -> list[tuple[int, int]]:
    """Find the grids of ``n_tokens`` that square patches at one stride can form."""
    return [
        (h, n_tokens // h)
        for h in range(1, min(n_tokens, image_shape[0]) + 1)
        if n_tokens % h == 0 and _fits((h, n_tokens // h), image_shape)
    ]


def _fits(grid: tuple[int, int], image_shape: Sequence[int]) -> bool:
    """Whether some convolution with a square kernel takes the image to the grid.

    A side of p pixels becomes ``(p - excess) // stride + 1`` tokens. The excess is the
    kernel's side minus the padding, the same along both sides of the image. Values from
    0 to two strides cover whole patches, padded ones and patches that overlap by half.
    """
    (h, w), (height, width) = grid, image_shape
    if h > height or w > width:
        return False
    stride = np.arange(1, max(image_shape) + 1)
    most = np.minimum.reduce(
        [height - (h - 1) * stride, width - (w - 1) * stride, 2 * stride]
    )
    least = np.maximum(height - h * stride, width - w * stride) + 1
    return bool((np.maximum(least, 0) <= most).any())
