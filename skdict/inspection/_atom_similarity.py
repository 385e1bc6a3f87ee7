"""Matrix of the atoms' cosines, ordered by clustering."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from skdict._utils.sklearn_private import check_matplotlib_support
from skdict._utils.types import Data
from skdict.metrics import order_atoms

from ._style import BLACK, drawing_on
from .estimators import fitted_attribute


class AtomSimilarityDisplay:
    """Matrix of the atoms' cosines, with similar atoms side by side.

    It is recommended to use :meth:`from_estimator` or :meth:`from_components`. All
    parameters are stored as attributes.

    Parameters
    ----------
    similarity : ndarray of shape (n_components, n_components)
        Cosines of the atoms, in the order in which they are drawn.
    cluster_starts : ndarray of shape (n_clusters,), default=None
        Position of the first atom of each cluster. None marks no clusters.

    Attributes
    ----------
    im_ : matplotlib AxesImage
        The matrix.
    colorbar_ : matplotlib Colorbar or None
        The colour bar.
    cluster_lines_ : matplotlib LineCollection or None
        Squares around the clusters.
    ax_ : matplotlib Axes
        Axes with the matrix.
    figure_ : matplotlib Figure
        Figure with the matrix.

    See Also
    --------
    skdict.metrics.order_atoms : Computes order and cosines.
    skdict.metrics.mutual_coherence : The largest absolute cosine.

    Notes
    -----
    The colours are symmetric about 0. By default they end at the largest absolute
    cosine of two different atoms, because colours up to the 1 of the diagonal would
    leave little contrast.

    Examples
    --------
    >>> from skdict.inspection import AtomSimilarityDisplay
    >>> atoms = [[1.0, 0.1], [-0.1, 1.0], [1.0, 0.0], [0.0, 1.0]]
    >>> display = AtomSimilarityDisplay.from_components(atoms, n_clusters=2)
    >>> display.cluster_starts
    array([0, 2])
    """

    def __init__(self, *, similarity: Data, cluster_starts: Data | None = None) -> None:
        self.similarity = similarity
        self.cluster_starts = cluster_starts

    def plot(
        self,
        ax: Any = None,
        *,
        limit: float | None = None,
        colorbar: bool = True,
        **kwargs: Any,
    ) -> Self:
        """Draw the matrix.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure as wide as a journal column.
        limit : float, default=None
            Absolute cosine at which the colours end. None means the largest one of
            two different atoms.
        colorbar : bool, default=True
            Whether to draw a colour bar.
        **kwargs : dict
            Arguments for matplotlib's `imshow`, such as another diverging `cmap`.

        Returns
        -------
        display : AtomSimilarityDisplay
            The object itself.
        """
        similarity = np.asarray(self.similarity)
        if limit is None:
            limit = _largest_off_diagonal(similarity)
        with drawing_on(
            ax, f"{type(self).__name__}.plot", height=2.7, layout="compressed"
        ) as ax:
            style = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
            self.im_ = ax.imshow(similarity, **style | kwargs)
            ax.spines[:].set_visible(False)
            self.cluster_lines_ = None
            if self.cluster_starts is not None:
                self._draw_clusters(ax, len(similarity))
            ax.set(xlabel="atom, in the order of the tree", ylabel="atom")
            ax.locator_params(integer=True, nbins=5)
            self.colorbar_ = None
            if colorbar:
                beyond = _beyond(similarity, *self.im_.get_clim())
                self.colorbar_ = ax.figure.colorbar(
                    self.im_, ax=ax, label="cosine", extend=beyond
                )
                self.colorbar_.outline.set_visible(False)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _draw_clusters(self, ax: Any, n_components: int) -> None:
        from matplotlib.collections import LineCollection

        starts = np.asarray(self.cluster_starts) - 0.5
        ends = np.append(starts[1:], n_components - 0.5)
        squares = [
            [(a, a), (b, a), (b, b), (a, b), (a, a)]
            for a, b in zip(starts, ends, strict=True)
        ]
        self.cluster_lines_ = ax.add_collection(
            LineCollection(squares, colors=BLACK, linewidths=0.6), autolim=False
        )

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        linkage: str = "average",
        n_clusters: int | None = None,
        min_similarity: float | None = None,
        optimal_ordering: bool | str = "auto",
        ax: Any = None,
        limit: float | None = None,
        colorbar: bool = True,
        **kwargs: Any,
    ) -> Self:
        """Draw the similarity of a dictionary's atoms.

        Parameters
        ----------
        estimator : estimator instance
            Fitted dictionary with `components_`, or a fitted
            :class:`~sklearn.pipeline.Pipeline` whose last step is one.
        linkage, n_clusters, min_similarity, optimal_ordering
            As in :func:`~skdict.metrics.order_atoms`; a square marks each cluster.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure as wide as a journal column.
        limit : float, default=None
            Absolute cosine at which the colours end, as in :meth:`plot`.
        colorbar : bool, default=True
            Whether to draw a colour bar.
        **kwargs : dict
            Arguments for matplotlib's `imshow`.

        Returns
        -------
        display : AtomSimilarityDisplay
            The display, drawn.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        return cls.from_components(
            fitted_attribute(estimator, "components_"),
            linkage=linkage,
            n_clusters=n_clusters,
            min_similarity=min_similarity,
            optimal_ordering=optimal_ordering,
            ax=ax,
            limit=limit,
            colorbar=colorbar,
            **kwargs,
        )

    @classmethod
    def from_components(
        cls,
        components: Data,
        *,
        linkage: str = "average",
        n_clusters: int | None = None,
        min_similarity: float | None = None,
        optimal_ordering: bool | str = "auto",
        ax: Any = None,
        limit: float | None = None,
        colorbar: bool = True,
        **kwargs: Any,
    ) -> Self:
        """Draw the similarity of given atoms.

        Parameters
        ----------
        components : array-like of shape (n_components, n_features)
            Atoms, one in each row.
        linkage, n_clusters, min_similarity, optimal_ordering
            As in :func:`~skdict.metrics.order_atoms`; a square marks each cluster.
        ax : matplotlib Axes, default=None
            Axes to draw on; None makes a figure as wide as a journal column.
        limit : float, default=None
            Absolute cosine at which the colours end, as in :meth:`plot`.
        colorbar : bool, default=True
            Whether to draw a colour bar.
        **kwargs : dict
            Arguments for matplotlib's `imshow`.

        Returns
        -------
        display : AtomSimilarityDisplay
            The display, drawn.
        """
        check_matplotlib_support(f"{cls.__name__}.from_components")
        ordered = order_atoms(
            components,
            linkage=linkage,
            n_clusters=n_clusters,
            min_similarity=min_similarity,
            optimal_ordering=optimal_ordering,
        )
        starts = None
        if ordered.labels is not None:
            starts = np.unique(ordered.labels[ordered.order], return_index=True)[1]
        display = cls(similarity=ordered.similarity, cluster_starts=starts)
        return display.plot(ax, limit=limit, colorbar=colorbar, **kwargs)


def _beyond(similarity: np.ndarray, low: float, high: float) -> str:
    """Ends of the colours with values beyond, for matplotlib's `extend`."""
    # The cosines on the diagonal are 1 only up to rounding.
    below, above = similarity.min() < low - 1e-6, similarity.max() > high + 1e-6
    return {(True, True): "both", (True, False): "min", (False, True): "max"}.get(
        (bool(below), bool(above)), "neither"
    )


def _largest_off_diagonal(similarity: np.ndarray) -> float:
    if len(similarity) < 2:
        return 1.0
    others = ~np.eye(len(similarity), dtype=bool)
    # The cosines of orthogonal atoms are all 0, which would leave no range of colours.
    return float(np.abs(similarity[others]).max()) or 1.0
