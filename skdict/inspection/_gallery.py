"""Galleries of the images and patches most and least aligned with a direction."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd

from skdict._utils.constraints import check_names, is_integer
from skdict._utils.sklearn_private import check_matplotlib_support
from skdict._utils.table import as_table
from skdict._utils.types import Data
from skdict.images import rank_images, strongest_patches
from skdict.images.grid import check_heatmaps, check_images, list_images, token_box
from skdict.images.rendering import Renderer

from ._images import (
    colour_scale,
    name_images,
    show_heatmap,
    show_picture,
)
from ._panels import (
    add_colorbar,
    check_quantity,
    feature_heatmaps,
    feature_label,
    panels,
)

_SIDES = ("most", "least")
_NAME_WIDTH = 12  # letters above a small picture


class GalleryDisplay:
    """Gallery of the images or patches most and least aligned with a direction.

    It is recommended to use :meth:`from_estimator` or :meth:`from_predictions`. All
    parameters are stored as attributes.

    Parameters
    ----------
    heatmaps : ndarray of shape (n_images, height, width)
        One value per token, on the grids of the images.
    images : list of ndarray of shape (rows, columns, n_channels)
        The images.
    items : DataFrame
        The images or patches shown, with the columns `side` ("most" or "least"),
        `image` and `score`, and for patches also `row` and `column`.
    quantity : {"cosine", "activation"}, default="cosine"
        Kind of the values.
    feature : int, default=None
        Index of the feature, for the title.
    image_names : list of str, default=None
        Names of all images, drawn above the pictures. None means "image 0", "image 1"
        and so on.

    Attributes
    ----------
    picture_artists_ : ndarray of shape (2, n_items) of AxesImage or None
        The pictures, with the most aligned in the first row.
    heatmap_artists_ : ndarray of shape (2, n_items) of AxesImage or None
        The heatmaps over the pictures, if they are drawn.
    colorbar_ : matplotlib Colorbar or None
        The colour bar, if heatmaps are drawn.
    axes_ : ndarray of shape (2, n_items) of Axes
        The panels.
    figure_ : matplotlib Figure
        Figure with the panels.

    See Also
    --------
    HeatmapDisplay : Whole heatmaps over images.
    skdict.images.rank_images : Ranks the images.
    skdict.images.strongest_patches : Ranks the patches.

    Notes
    -----
    The images with the largest of thousands of values look alike for any direction,
    even for a random one. To see what is special, compare them with the least aligned
    images, and with the gallery of a random direction.

    Examples
    --------
    >>> import numpy as np
    >>> from skdict.inspection import GalleryDisplay
    >>> rng = np.random.default_rng(0)
    >>> images, heatmaps = rng.random((9, 32, 32, 3)), rng.normal(size=(9, 8, 8))
    >>> display = GalleryDisplay.from_predictions(heatmaps, images, n_items=3)
    >>> display.axes_.shape
    (2, 3)
    """

    def __init__(
        self,
        *,
        heatmaps: Data,
        images: Any,
        items: pd.DataFrame,
        quantity: str = "cosine",
        feature: int | None = None,
        image_names: list[str] | None = None,
    ) -> None:
        self.heatmaps = heatmaps
        self.images = images
        self.items = items
        self.quantity = quantity
        self.feature = feature
        self.image_names = image_names

    def plot(
        self,
        ax: Any = None,
        *,
        overlay: bool = False,
        context: int = 3,
        alpha: float = 0.5,
        cmap: Any = None,
        vmax: float | None = None,
        rgb: bool | None = None,
    ) -> Self:
        """Draw the gallery.

        Parameters
        ----------
        ax : array-like of matplotlib Axes, default=None
            Twice the number of items on a side. None makes a figure.
        overlay : bool, default=False
            Whether to draw the heatmap over each picture.
        context : int, default=3
            Number of tokens that are shown on each side of a patch. A frame marks the
            patch.
        alpha : float, default=0.5
            Opacity of the heatmaps.
        cmap : str or matplotlib Colormap, default=None
            Colours of the heatmaps, as in :class:`HeatmapDisplay`.
        vmax : float, default=None
            Value at the upper end of the scale of colours, as in
            :class:`HeatmapDisplay`. None means the largest absolute value of all
            heatmaps.
        rgb : bool, default=None
            Whether the channels are red, green and blue, as in
            :class:`HeatmapDisplay`.

        Returns
        -------
        display : GalleryDisplay
            The object itself.

        Raises
        ------
        ValueError
            If `vmax` is not positive, if the number of names is not that of images, or
            if the number of axes is not that of panels.
        """
        check_matplotlib_support(f"{type(self).__name__}.plot")
        check_quantity(self.quantity)
        if not is_integer(context) or context < 0:
            raise ValueError(f"context must be a number of tokens, got {context!r}.")
        heatmaps = check_heatmaps(self.heatmaps)
        names = name_images(self.image_names, len(heatmaps), _NAME_WIDTH)
        grid_shape = heatmaps.shape[1:]
        items = {key: np.asarray(self.items[key]) for key in ("side", "image", "score")}
        shown = np.unique(items["image"])
        # Read only the images that are shown: there may be many others.
        given = list_images(self.images, len(heatmaps))
        checked = check_images([given[i] for i in shown], len(shown), grid_shape)
        images = dict(zip(shown, checked, strict=True))
        renderer = Renderer(checked, rgb)
        norm, cmap = colour_scale(heatmaps, self.quantity, cmap, vmax)
        sides = [np.flatnonzero(items["side"] == side) for side in _SIDES]
        shape = (2, max(map(len, sides)))
        are_patches = "row" in self.items
        caller = f"{type(self).__name__}.plot"
        with panels(ax, shape, caller, size=1.1) as axes:
            pictures, overlays = (np.full(shape, None, dtype=object) for _ in range(2))
            for i, j in np.ndindex(shape):
                panel = axes[i, j]
                if j >= len(sides[i]):
                    panel.set_axis_off()
                    continue
                item = sides[i][j]
                index = items["image"][item]
                image = images[index]
                picture, corner = renderer.composite(image), (0, 0)
                window = None
                if are_patches:
                    place = (self.items["row"][item], self.items["column"][item])
                    window = token_box(*place, grid_shape, image.shape, context)
                    top, bottom, left, right = window
                    picture, corner = picture[top:bottom, left:right], (top, left)
                pictures[i, j] = show_picture(panel, picture, corner)
                if overlay:
                    overlays[i, j] = show_heatmap(
                        panel,
                        heatmaps[index],
                        image.shape,
                        self.quantity,
                        norm=norm,
                        cmap=cmap,
                        alpha=alpha,
                    )
                if window is not None:
                    _set_window(panel, place, grid_shape, image.shape, context)
                title = f"{items['score'][item]:.2f}".replace("-", "\N{MINUS SIGN}")
                if len(heatmaps) > 1 or self.image_names is not None:
                    title = f"{names[index]}\n{title}"
                panel.set_title(title)
            for i, side in enumerate(_SIDES):
                axes[i, 0].set_ylabel(f"{side} aligned")
            self.colorbar_ = None
            if overlay:
                self.colorbar_ = add_colorbar(
                    axes, norm, cmap, self.quantity, self.feature
                )
            elif ax is None and self.feature is not None:
                axes[0, 0].figure.suptitle(feature_label(self.quantity, self.feature))
        self.axes_, self.figure_ = axes, axes[0, 0].figure
        self.picture_artists_, self.heatmap_artists_ = pictures, overlays
        return self

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Data,
        images: Any,
        grid_shape: Data,
        *,
        feature: int,
        quantity: str = "cosine",
        **kwargs: Any,
    ) -> Self:
        """Draw the gallery of a feature of a fitted dictionary.

        Parameters
        ----------
        estimator : estimator instance
            Fitted dictionary, or a fitted :class:`~sklearn.pipeline.Pipeline` whose
            last step is one.
        X : array-like of shape (n_images * height * width, n_features)
            Tokens of the images, image by image and row by row of the grid.
        images : array-like of shape (n_images, rows, columns, n_channels), or list
            The images, channels last, or a list of images of different sizes.
        grid_shape : tuple of int, (height, width)
            The grid of tokens.
        feature : int
            Index of the feature.
        quantity : {"cosine", "activation"}, default="cosine"
            The cosine of the feature's direction with each token as it reaches the
            dictionary, or the feature's value in the codes.
        **kwargs : dict
            Other parameters of :meth:`from_predictions`.

        Returns
        -------
        display : GalleryDisplay
            The display, drawn.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        check_names(kwargs.get("image_names"), "image_names")
        heatmaps = feature_heatmaps(estimator, X, grid_shape, feature, quantity)
        return cls.from_predictions(
            heatmaps, images, quantity=quantity, feature=feature, **kwargs
        )

    @classmethod
    def from_predictions(
        cls,
        heatmaps: Data,
        images: Any,
        *,
        of: str = "images",
        n_items: int = 6,
        image_score: str = "mean",
        max_per_image: int | None = None,
        min_distance: int = 4,
        quantity: str = "cosine",
        feature: int | None = None,
        image_names: list[str] | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the gallery of given heatmaps.

        Parameters
        ----------
        heatmaps : array-like of shape (n_images, height, width) or (height, width)
            One value per token, as from `token_heatmaps`.
        images : array-like of shape (n_images, rows, columns, n_channels), or list
            The images, as for :meth:`from_estimator`.
        of : {"images", "patches"}, default="images"
            Whether whole images are ranked, or single tokens.
        n_items : int, default=6
            Number of images or patches on either side.
        image_score : {"mean", "max"}, default="mean"
            The score of an image, as in :func:`~skdict.images.rank_images`.
        max_per_image : int, default=None
            Largest number of patches from one image.
        min_distance : int, default=4
            Patches of one image are at least this number of tokens apart, as in
            :func:`~skdict.images.strongest_patches`.
        quantity : {"cosine", "activation"}, default="cosine"
            Kind of the values.
        feature : int, default=None
            Index of the feature, for the title.
        image_names : list of str, default=None
            Names of all images. None means their numbers.
        ax : array-like of matplotlib Axes, default=None
            Twice the number of items on a side. None makes a figure.
        **kwargs : dict
            Other parameters of :meth:`plot`.

        Returns
        -------
        display : GalleryDisplay
            The display, drawn.
        """
        check_matplotlib_support(f"{cls.__name__}.from_predictions")
        heatmaps = check_heatmaps(heatmaps)
        images = list_images(images, len(heatmaps))
        if of == "images":
            items = rank_images(heatmaps, n_images=n_items, image_score=image_score)
        elif of == "patches":
            items = _both_sides(
                heatmaps,
                n_patches=n_items,
                max_per_image=max_per_image,
                min_distance=min_distance,
            )
        else:
            raise ValueError(f"of must be 'images' or 'patches', got {of!r}.")
        display = cls(
            heatmaps=heatmaps,
            images=images,
            items=items,
            quantity=quantity,
            feature=feature,
            image_names=image_names,
        )
        return display.plot(ax, **kwargs)


def _both_sides(heatmaps: np.ndarray, **kwargs: Any) -> pd.DataFrame:
    """Put the patches most and least aligned in one table."""
    tables = [strongest_patches(heatmaps, side=side, **kwargs) for side in _SIDES]
    sizes = [len(table["value"]) for table in tables]
    columns = {
        "side": np.repeat(np.array(_SIDES, dtype=object), sizes),
        "rank": np.concatenate([np.arange(size) for size in sizes]),
    }
    for name in ("image", "row", "column", "value"):
        key = "score" if name == "value" else name
        columns[key] = np.concatenate([table[name] for table in tables])
    return as_table(columns, {})


def _set_window(
    ax: Any,
    place: tuple[int, int],
    grid_shape: tuple[int, int],
    image_shape: tuple[int, ...],
    context: int,
) -> None:
    """Frame a patch and show the tokens around it, even beyond the image's edge."""
    from matplotlib.patches import Rectangle

    height, width = (n / m for n, m in zip(image_shape, grid_shape, strict=False))
    top, left = place[0] * height, place[1] * width
    # White over black is visible on any picture.
    for colour, line_width in (("black", 1.8), ("white", 0.9)):
        ax.add_patch(
            Rectangle((left, top), width, height, fill=False, ec=colour, lw=line_width)
        )
    ax.set(
        xlim=(left - context * width, left + (1 + context) * width),
        ylim=(top + (1 + context) * height, top - context * height),
        facecolor="0.9",
    )
