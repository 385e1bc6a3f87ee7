"""Rows together with the number by which training divides them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from skdict._ranks import ALONE, Ranks
from skdict._utils.checks import as_numpy
from skdict._utils.types import AnyArray
from skdict._utils.warn import warn
from skdict.rows.batches import load
from skdict.rows.devices import as_tensor
from skdict.rows.moments import centre_and_spread, working_scale
from skdict.rows.stored import RememberingRows, Table, take

# A warning tells of rows that lie this many times farther away than the first ones, or
# nearer.
_OTHER_SCALE = 100


class ScaledRows:
    """Rows, their mean and spread, and the number by which training divides them.

    Parameters
    ----------
    rows : ndarray, Tensor or StoredRows of shape (n, d)
        As users have them.
    before : float, default=0.0
        Scale of earlier rows, for rows that do not vary; 0 if there were none.
    name : str, default="X"
        What messages call the rows.
    ranks : Ranks
        The processes of which each reads its part of the rows.

    Attributes
    ----------
    mean : Tensor of shape (d,)
        The mean row.
    spread : float
        Root mean square distance of the rows from it.
    scale : float
        Their spread; 0 if neither they nor earlier rows vary.
    """

    def __init__(
        self,
        rows: Table,
        before: float = 0.0,
        name: str = "X",
        ranks: Ranks = ALONE,
    ) -> None:
        self.rows = rows
        self.before = before
        self.name = name
        if isinstance(rows, RememberingRows):
            self.mean, self.spread = rows.remember(
                centre_and_spread, lambda: centre_and_spread(rows, ranks=ranks)
            )
        else:
            self.mean, self.spread = centre_and_spread(rows, ranks=ranks)
        self.scale = working_scale(self.mean, self.spread, name) or before

    def keep_scale(self, centre: AnyArray, attribute: str) -> None:
        """Keep the scale of earlier rows; the first rows that vary set it.

        Parameters
        ----------
        centre : array of shape (d,)
            Around which the earlier rows lie.
        attribute : str
            What the message calls it.

        Warns
        -----
        UserWarning
            If these rows lie over a hundred times farther from it, or nearer.
        """
        unit = self.before or 1.0
        offsets = self.mean.double() - as_tensor(as_numpy(centre)).double()
        offset = float((offsets / unit).norm())
        if not self.before:
            self.scale = working_scale(self.mean, self.spread or offset, self.name)
            return
        self.scale = self.before
        distance = math.hypot(self.spread, offset * unit)
        ratio = working_scale(self.mean, distance, self.name) / unit
        if ratio > _OTHER_SCALE or 0 < ratio < 1 / _OTHER_SCALE:
            warn(
                f"The rows of {self.name} lie {ratio:.2g} times as far from "
                f"{attribute} as those of the first call, and partial_fit keeps that "
                "scale. If their units have changed, fit anew."
            )

    @property
    def gained(self) -> float:
        """The scale if it was not known before, else 1."""
        return 1.0 if self.before else self.divisor

    @property
    def divisor(self) -> float:
        """The scale, or 1 where it is not known."""
        return self.scale or 1.0

    @property
    def variance(self) -> float:
        """Mean squared distance from the mean, once they are divided."""
        return (self.spread / self.divisor) ** 2

    def sample(self, among: Tensor) -> Tensor:
        """Some of the rows, divided and on the CPU."""
        return load(take(self.rows, among), torch.device("cpu"), self.divisor)
