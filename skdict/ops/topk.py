"""The TopK activation of a sparse autoencoder, with exact sparse gradients."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from skdict.ops.chunks import rows_per_chunk
from skdict.ops.products import pre_activations
from skdict.ops.slots import SlotCode, active_products


def topk_encode(
    x: Tensor,
    encoder: Tensor,
    bias: Tensor,
    k: int,
    selection: Literal["positive", "absolute"] = "positive",
    half: bool = False,
) -> SlotCode:
    """Keep the ``k`` largest of ``relu(x @ encoder.T + bias)`` in each row.

    A latent that ReLU sets to zero has not fired, and its slot is empty: a row with
    fewer than ``k`` positive latents has fewer non-zeros.

    Parameters
    ----------
    x : Tensor of shape (n, d)
        Rows, with the pre-bias already subtracted.
    encoder : Tensor of shape (M, d)
        One direction per latent.
    bias : Tensor of shape (M,)
        One offset per latent.
    k : int
        Largest number of active latents per row, at most ``M``.
    selection : {"positive", "absolute"}, default="positive"
        "absolute" keeps those of the largest magnitude, with their signs, and without
        ReLU.
    half : bool, default=False
        Choose the latents by products in bfloat16. Their values are exact.

    Returns
    -------
    SlotCode
        Differentiable in ``x``, ``encoder`` and ``bias``. The gradients are those
        of automatic differentiation, summed from the active latents only: the
        (n, M) activations are neither kept nor differentiated.
    """
    values, indices = _TopKEncode.apply(x, encoder, bias, k, selection, half)
    return SlotCode(indices, values)


class _TopKEncode(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        encoder: Tensor,
        bias: Tensor,
        k: int,
        selection: Literal["positive", "absolute"],
        half: bool,
    ) -> tuple[Tensor, Tensor]:
        parts = []
        for rows in x.split(rows_per_chunk(x, len(encoder))):
            activations = pre_activations(rows, encoder, bias, half)
            by = activations.abs() if selection == "absolute" else activations
            best = by.topk(k, dim=1, sorted=False).indices
            if half:
                values = active_products(rows, encoder, best) + bias[best]
            else:
                values = activations.gather(1, best)
            if selection == "positive":
                values.relu_()
            parts.append((values, best))
        values, indices = (torch.cat(part) for part in zip(*parts, strict=True))
        ctx.save_for_backward(x, encoder, indices, values)
        ctx.mark_non_differentiable(indices)
        return values, indices

    @staticmethod
    def backward(
        ctx: Any, grad: Tensor, _: Tensor
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None, None]:
        x, encoder, indices, values = ctx.saved_tensors
        fired = SlotCode(indices, grad * (values != 0))
        grad_x = grad_encoder = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_x = fired.decode(encoder)
        if ctx.needs_input_grad[1]:
            grad_encoder = fired.correlate(x, len(encoder))
        if ctx.needs_input_grad[2]:
            grad_bias = grad.new_zeros(len(encoder)).index_add_(
                0, indices.flatten(), fired.values.flatten()
            )
        return grad_x, grad_encoder, grad_bias, None, None, None


def decode_strongest(
    x: Tensor, encoder: Tensor, bias: Tensor, decoder: Tensor, k: int
) -> Tensor:
    """Decode each row from its ``k`` largest pre-activations, without ReLU.

    For latents that never fire: a latent that is negative on all rows would get no
    gradient through ReLU.
    """
    strongest = torch.addmm(bias, x, encoder.T).topk(k, dim=1)
    return SlotCode(strongest.indices, strongest.values).decode(decoder)
