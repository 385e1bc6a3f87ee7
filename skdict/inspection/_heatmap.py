"""Heatmaps of a direction over images."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from skdict._utils.constraints import check_names, is_integer
from skdict._utils.sklearn_private import check_matplotlib_support
from skdict._utils.types import Data
from skdict.images.grid import check_heatmaps, check_images
from skdict.images.rendering import Renderer

from ._images import (
    colour_scale,
    name_images,
    show_heatmap,
    show_picture,
)
from ._panels import add_colorbar, check_quantity, feature_heatmaps, panels
from ._style import plain


class HeatmapDisplay:
    """Heatmaps of a direction over images, on every channel and their composite.

    It is recommended to use :meth:`from_estimator` or :meth:`from_predictions`. All
    parameters are stored as attributes.

    Parameters
    ----------
    heatmaps : ndarray of shape (n_images, height, width)
        One value per token, on the grids of the images.
    images : list of ndarray of shape (rows, columns, n_channels)
        The images.
    quantity : {"cosine", "activation"}, default="cosine"
        Kind of the values.
    feature : int, default=None
        Index of the feature, for the colour bar's label.
    channel_names : list of str, default=None
        Names of the channels. None means "red", "green" and "blue" for RGB images,
        otherwise "channel 0" and so on.
    image_names : list of str, default=None
        Names of several images. None means "image 0" and so on.

    Attributes
    ----------
    heatmap_artists_ : ndarray of shape (n_images, n_views) of AxesImage or None
        The heatmap in each panel; None in panels with the image alone.
    colorbar_ : matplotlib Colorbar or None
        The colour bar.
    axes_ : ndarray of shape (n_images, n_views) of Axes
        The panels.
    figure_ : matplotlib Figure
        Figure with the panels.

    See Also
    --------
    GalleryDisplay : Images and patches most and least aligned with a direction.
    skdict.images.heatmap_channel_correlations : Correlation with each channel.
    skdict.images.morans_i : Whether a heatmap is more than noise.

    Notes
    -----
    Each token is a flat block of pixels, because interpolation would make the heatmap
    look smoother than it is. All panels share one scale of colours. It is centred at 0,
    but starts at 0 for activations without negative values. Tokens in which a feature
    is not active stay transparent.

    Examples
    --------
    >>> import numpy as np
    >>> from skdict.inspection import HeatmapDisplay
    >>> rng = np.random.default_rng(0)
    >>> image, heatmap = rng.random((32, 32, 3)), rng.uniform(-1, 1, size=(8, 8))
    >>> display = HeatmapDisplay.from_predictions(heatmap, image)
    >>> [ax.get_title() for ax in display.axes_[0]]
    ['image', 'composite', 'red', 'green', 'blue', 'heatmap']
    """

    def __init__(
        self,
        *,
        heatmaps: Data,
        images: Any,
        quantity: str = "cosine",
        feature: int | None = None,
        channel_names: list[str] | None = None,
        image_names: list[str] | None = None,
    ) -> None:
        self.heatmaps = heatmaps
        self.images = images
        self.quantity = quantity
        self.feature = feature
        self.channel_names = channel_names
        self.image_names = image_names

    def plot(
        self,
        ax: Any = None,
        *,
        views: Any = None,
        alpha: float = 0.5,
        cmap: Any = None,
        vmax: float | None = None,
        rgb: bool | None = None,
        colorbar: bool = True,
    ) -> Self:
        """Draw the heatmaps.

        Parameters
        ----------
        ax : matplotlib Axes or array-like of them, default=None
            One Axes for each panel, image by image. None makes a figure.
        views : str, int or list of them, default=None
            The panels of each image: "image" (without the heatmap), "composite" (the
            heatmap over all channels in one picture), the index or the name of a
            channel (the heatmap over it), "heatmap" (the heatmap alone). None means all
            of these. The titles of the panels are the views. With several images and a
            single view, they are the names of the images.
        alpha : float, default=0.5
            Opacity of the heatmaps over a picture.
        cmap : str or matplotlib Colormap, default=None
            Colours of the heatmaps. None means viridis for activations without negative
            values, otherwise blue, white and red.
        vmax : float, default=None
            Value at the upper end of the scale of colours. The lower end is ``-vmax``,
            or 0 for activations without negative values. None means the largest
            absolute value of all heatmaps.
        rgb : bool, default=None
            Whether the channels are red, green and blue, to be shown as they are. None
            means True if there are three channels, in bytes or within [0, 1]. Other
            channels are made brighter, with the same limits in all images, and added
            up, each in its own colour.
        colorbar : bool, default=True
            Whether to draw a colour bar.

        Returns
        -------
        display : HeatmapDisplay
            The object itself.

        Raises
        ------
        ValueError
            If a view is unknown, if `vmax` is not positive, if the number of names is
            not that of channels or images, or if the number of axes is not that of
            panels.
        """
        check_matplotlib_support(f"{type(self).__name__}.plot")
        check_quantity(self.quantity)
        heatmaps = check_heatmaps(self.heatmaps)
        images = check_images(self.images, len(heatmaps), heatmaps.shape[1:])
        renderer = Renderer(images, rgb)
        names = self._channel_names(images[0].shape[2], renderer.is_rgb)
        image_names = name_images(self.image_names, len(images))
        chosen = _check_views(views, names)
        norm, cmap = colour_scale(heatmaps, self.quantity, cmap, vmax)
        shape = (len(heatmaps), len(chosen))
        one_view = len(chosen) == 1 < len(heatmaps)
        caller = f"{type(self).__name__}.plot"
        with panels(ax, shape, caller, size=1.6, wrap=3) as axes:
            artists = np.full(shape, None, dtype=object)
            for i, (heatmap, image) in enumerate(zip(heatmaps, images, strict=True)):
                for j, view in enumerate(chosen):
                    panel = axes[i, j]
                    if view in ("image", "composite"):
                        show_picture(panel, renderer.composite(image))
                    elif isinstance(view, int):
                        show_picture(panel, renderer.channel(image, view))
                    if view != "image":
                        artists[i, j] = show_heatmap(
                            panel,
                            heatmap,
                            image.shape,
                            self.quantity,
                            norm=norm,
                            cmap=cmap,
                            alpha=1.0 if view == "heatmap" else alpha,
                        )
                    if i == 0 and not one_view:
                        title = view if isinstance(view, str) else plain(names[view])
                        panel.set_title(title)
                if one_view:
                    axes[i, 0].set_title(image_names[i])
                elif len(heatmaps) > 1:
                    axes[i, 0].set_ylabel(image_names[i])
            self.colorbar_ = None
            if colorbar and set(chosen) != {"image"}:
                self.colorbar_ = add_colorbar(
                    axes, norm, cmap, self.quantity, self.feature
                )
        self.axes_, self.figure_ = axes, axes[0, 0].figure
        self.heatmap_artists_ = artists
        return self

    def _channel_names(self, n_channels: int, is_rgb: bool) -> list[str]:
        if self.channel_names is None:
            if is_rgb:
                return ["red", "green", "blue"]
            return [f"channel {c}" for c in range(n_channels)]
        check_names(self.channel_names, "channel_names")
        names = [str(name) for name in self.channel_names]
        if len(names) != n_channels:
            raise ValueError(
                f"The images have {n_channels} channels, but channel_names has "
                f"{len(names)} entries."
            )
        return names

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
        channel_names: list[str] | None = None,
        image_names: list[str] | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw the heatmaps of a feature of a fitted dictionary.

        Parameters
        ----------
        estimator : estimator instance
            Fitted dictionary, or a fitted :class:`~sklearn.pipeline.Pipeline` whose
            last step is one.
        X : array-like of shape (n_images * height * width, n_features)
            Tokens of the images, in the order of `TokenExtractor` with ``pool=None``:
            image by image and row by row of the grid.
        images : array-like of shape (n_images, rows, columns, n_channels), or list
            The images, channels last, or a list of images of different sizes. A single
            image needs no list.
        grid_shape : tuple of int, (height, width)
            The grid of tokens.
        feature : int
            Index of the feature.
        quantity : {"cosine", "activation"}, default="cosine"
            The cosine of the feature's direction with each token as it reaches the
            dictionary, or the feature's value in the codes.
        channel_names : list of str, default=None
            Names of the channels.
        image_names : list of str, default=None
            Names of the images.
        ax : matplotlib Axes or array-like of them, default=None
            One Axes for each panel. None makes a figure.
        **kwargs : dict
            Other parameters of :meth:`plot`.

        Returns
        -------
        display : HeatmapDisplay
            The display, drawn.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        check_names(channel_names, "channel_names")
        check_names(image_names, "image_names")
        heatmaps = feature_heatmaps(estimator, X, grid_shape, feature, quantity)
        return cls.from_predictions(
            heatmaps,
            images,
            quantity=quantity,
            feature=feature,
            channel_names=channel_names,
            image_names=image_names,
            ax=ax,
            **kwargs,
        )

    @classmethod
    def from_predictions(
        cls,
        heatmaps: Data,
        images: Any,
        *,
        quantity: str = "cosine",
        feature: int | None = None,
        channel_names: list[str] | None = None,
        image_names: list[str] | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Draw given heatmaps.

        Parameters
        ----------
        heatmaps : array-like of shape (n_images, height, width) or (height, width)
            One value per token, as from `token_heatmaps`.
        images : array-like of shape (n_images, rows, columns, n_channels), or list
            The images, as for :meth:`from_estimator`.
        quantity : {"cosine", "activation"}, default="cosine"
            Kind of the values.
        feature : int, default=None
            Index of the feature, for the colour bar's label.
        channel_names : list of str, default=None
            Names of the channels.
        image_names : list of str, default=None
            Names of the images.
        ax : matplotlib Axes or array-like of them, default=None
            One Axes for each panel. None makes a figure.
        **kwargs : dict
            Other parameters of :meth:`plot`.

        Returns
        -------
        display : HeatmapDisplay
            The display, drawn.
        """
        check_matplotlib_support(f"{cls.__name__}.from_predictions")
        heatmaps = check_heatmaps(heatmaps)
        display = cls(
            heatmaps=heatmaps,
            images=check_images(images, len(heatmaps), heatmaps.shape[1:]),
            quantity=quantity,
            feature=feature,
            channel_names=channel_names,
            image_names=image_names,
        )
        return display.plot(ax, **kwargs)


def _check_views(views: Any, names: list[str]) -> list[str | int]:
    """Check views and convert them to names of panels and indices of channels."""
    if views is None:
        # With one channel the composite is that channel.
        channels = range(len(names)) if len(names) > 1 else ()
        return ["image", "composite", *channels, "heatmap"]
    if isinstance(views, str) or is_integer(views):
        views = [views]
    chosen: list[str | int] = []
    for view in views if np.iterable(views) else [views]:
        if isinstance(view, str) and view in ("image", "composite", "heatmap"):
            chosen.append(view)
        elif isinstance(view, str) and view in names:
            chosen.append(names.index(view))
        elif is_integer(view) and 0 <= view < len(names):
            chosen.append(int(view))
        else:
            raise ValueError(
                f"There is no view {view!r}; there are 'image', 'composite', "
                f"'heatmap' and the channels {names} by name or index."
            )
    if not chosen:
        raise ValueError("views is empty.")
    return chosen
