"""A linear encoder of which only what lies above a floor is kept."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from skdict.ops.chunks import rows_per_chunk
from skdict.ops.code import DenseCode
from skdict.ops.products import pre_activations
from skdict.ops.ragged import RaggedCode, active_products, offsets_of

# With a larger fraction of active entries, dense products are faster.
_SPARSE = 1 / 16
# Rows that tell how many entries of a batch are active, and a margin for those that
# have more of them.
_SAMPLE, _MARGIN = 128, 1.3


def linear_encode(
    x: Tensor,
    encoder: Tensor,
    bias: Tensor,
    floor: Tensor | float = 0.0,
    half: bool = False,
) -> RaggedCode | DenseCode:
    """Pre-activations ``x @ encoder.T + bias`` that lie above a floor.

    Where few of them do, only these are kept and differentiated; else all of them
    are. What is made of them must then be zero for those at the floor or below it.

    Parameters
    ----------
    x : Tensor of shape (n, d)
        Rows, already centred.
    encoder : Tensor of shape (M, d)
        One direction per latent.
    bias : Tensor of shape (M,)
        One offset per latent.
    floor : float or Tensor of shape (M,), default=0.0
        Pre-activations above it are kept.
    half : bool, default=False
        Choose what is kept by products in bfloat16. Their values are exact, and so are
        all values where many are kept.

    Returns
    -------
    RaggedCode or DenseCode
        Differentiable in ``x``, ``encoder`` and ``bias``. The gradients are those of
        automatic differentiation.
    """
    with torch.no_grad():
        sample = pre_activations(_some(x), encoder, bias)
    return _encode(x, encoder, bias, floor, half, sample)


def _encode(
    x: Tensor,
    encoder: Tensor,
    bias: Tensor,
    floor: Tensor | float,
    half: bool,
    sample: Tensor,
) -> RaggedCode | DenseCode:
    """The same, if the pre-activations of some rows are known."""
    if (sample > floor).sum() > _SPARSE * sample.numel():
        return DenseCode(torch.addmm(bias, x, encoder.T))
    with torch.no_grad():
        parts: list[tuple[Tensor, Tensor, Tensor]] = []
        for rows in x.split(rows_per_chunk(x, len(encoder))):
            activations = pre_activations(rows, encoder, bias, half)
            above = activations > floor
            counts = above.sum(1)
            places = above.flatten().nonzero()[:, 0]
            indices = places % len(encoder)
            if half:
                values = active_products(rows, encoder, indices, offsets_of(counts))
                values += bias[indices]
            else:
                values = activations.flatten()[places]
            parts.append((counts, indices, values))
    counts, indices, values = (torch.cat(part) for part in zip(*parts, strict=True))
    offsets = offsets_of(counts)
    values = _Activate.apply(x, encoder, bias, values, indices, offsets)
    return RaggedCode(offsets, indices, values)


def _some(x: Tensor) -> Tensor:
    """Rows at equal distances that stand for all of them."""
    return x[:: max(1, len(x) // _SAMPLE)]


class _Activate(torch.autograd.Function):
    """Values that are known already, with the gradients of a linear encoder."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        encoder: Tensor,
        bias: Tensor,
        values: Tensor,
        indices: Tensor,
        offsets: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(x, encoder, indices, offsets)
        return values.clone()

    @staticmethod
    def backward(
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None, None]:
        x, encoder, indices, offsets = ctx.saved_tensors
        code = RaggedCode(offsets, indices, grad)
        grad_x = grad_encoder = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_x = code.decode(encoder)
        if ctx.needs_input_grad[1]:
            grad_encoder = code.correlate(x, len(encoder))
        if ctx.needs_input_grad[2]:
            grad_bias = grad.new_zeros(len(encoder)).index_add_(0, indices, grad)
        return grad_x, grad_encoder, grad_bias, None, None, None


def strongest(code: RaggedCode | DenseCode, n: int) -> RaggedCode | DenseCode:
    """The ``n`` largest positive entries of a batch; all of them where they are fewer.

    In a dense code, the others become zero.
    """
    values = code.values.detach().flatten()
    chosen = torch.zeros_like(values, dtype=torch.bool)
    chosen[values.topk(min(n, len(values)), sorted=False).indices] = True
    return _keep(code, chosen & (values > 0))


def above(code: RaggedCode | DenseCode, level: Tensor) -> RaggedCode | DenseCode:
    """The positive entries that are not below a level; others of a dense code are 0."""
    values = code.values.detach().flatten()
    return _keep(code, (values >= level) & (values > 0))


def _keep(code: RaggedCode | DenseCode, chosen: Tensor) -> RaggedCode | DenseCode:
    if isinstance(code, RaggedCode):
        return code.keep(chosen)
    return DenseCode(code.values * chosen.view_as(code.values))


def batch_topk_encode(
    x: Tensor, encoder: Tensor, bias: Tensor, k: float, half: bool = False
) -> RaggedCode | DenseCode:
    """Keep the ``k * n`` largest of ``relu(x @ encoder.T + bias)`` in the whole batch.

    Parameters
    ----------
    x, encoder, bias, half
        As in :func:`linear_encode`.
    k : float
        Mean number of active latents of a row.

    Returns
    -------
    RaggedCode or DenseCode
        Differentiable in ``x``, ``encoder`` and ``bias``.
    """
    n = round(k * len(x))
    # A few rows tell a floor above which there are some more than are wanted, so that
    # the whole batch need not be sorted.
    with torch.no_grad():
        sample = pre_activations(_some(x), encoder, bias)
        wanted = min(int(_MARGIN * k * len(sample)) + 1, sample.numel())
        largest = sample.flatten().topk(wanted, sorted=False).values
        floor = largest.amin().clamp(min=0)
    code = _encode(x, encoder, bias, floor, half, sample)
    if floor > 0 and (code.values.detach() > 0).sum() < n:
        code = _encode(x, encoder, bias, 0.0, half, sample)
    return strongest(code, n)
