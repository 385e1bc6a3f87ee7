"""Heatmaps of a direction over images."""

import numpy as np

from skdict._utils.constraints import check_names, is_integer
from skdict._utils.sklearn_private import check_matplotlib_support
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
        One value per token, on the images' grids of tokens.
    images : list of ndarray of shape (rows, columns, n_channels)
        The images.
    quantity : {"cosine", "activation"}, default="cosine"
        What the values are.
    feature : int, default=None
        Index of the feature, for the colour bar's label.
    channel_names : list of str, default=None
        Names of the channels. None: "red", "green" and "blue" for RGB images,
        otherwise "channel 0" and so on.
    image_names : list of str, default=None
        Names of the images, where there are several. None: "image 0" and so on.

    Attributes
    ----------
    heatmap_artists_ : ndarray of shape (n_images, n_views) of AxesImage or None
        The heatmap in each panel; None in the panels of the bare image.
    colorbar_ : matplotlib Colorbar or None
        The colour bar.
    axes_ : ndarray of shape (n_images, n_views) of Axes
        The panels.
    figure_ : matplotlib Figure
        Figure with the panels.

    See Also
    --------
    GalleryDisplay : The images and patches on which a direction is strongest.
    skdict.images.heatmap_channel_correlations : Correlation with each channel.
    skdict.images.morans_i : Whether a heatmap is more than noise.

    Notes
    -----
    Each token is drawn as one flat block of pixels: interpolation would make the
    heatmap look smoother than it is. All panels share one scale of colours, centred
    at 0 unless the values are activations and none is negative. Tokens in which a
    feature is not active are left clear.

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
        heatmaps,
        images,
        quantity="cosine",
        feature=None,
        channel_names=None,
        image_names=None,
    ):
        self.heatmaps = heatmaps
        self.images = images
        self.quantity = quantity
        self.feature = feature
        self.channel_names = channel_names
        self.image_names = image_names

    def plot(
        self,
        ax=None,
        *,
        views=None,
        alpha=0.5,
        cmap=None,
        vmax=None,
        rgb=None,
        colorbar=True,
    ):
        """Draw the heatmaps.

        Parameters
        ----------
        ax : matplotlib Axes or array-like of them, default=None
            As many axes as there are panels, image by image. None makes a figure.
        views : str, int or list of them, default=None
            The panels of each image: "image" (without the heatmap), "composite" (the
            heatmap over all channels in one picture), the index or the name of a
            channel (the heatmap over it), "heatmap" (by itself). None: all of these.
            One view of several images is titled by the name of the image.
        alpha : float, default=0.5
            Opacity of the heatmaps over a picture.
        cmap : str or matplotlib Colormap, default=None
            None: blue, white and red for values on both sides of 0, viridis for
            activations that are not negative.
        vmax : float, default=None
            The value at the end of the scale of colours. None: the largest absolute
            value of all heatmaps.
        rgb : bool, default=None
            Whether the channels are red, green and blue, to be shown as they are.
            None: where there are three, in bytes or within [0, 1]. Others are made
            brighter, each channel by the same limits in all images, and added up in
            one colour for each.
        colorbar : bool, default=True
            Whether to draw a colour bar.

        Returns
        -------
        display : HeatmapDisplay
            The object itself.

        Raises
        ------
        ValueError
            If a view is unknown, if there are not as many names as channels or
            images, or if `ax` does not hold as many axes as panels.
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
                    elif view != "heatmap":
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

    def _channel_names(self, n_channels, is_rgb):
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
        estimator,
        X,
        images,
        grid_shape,
        *,
        feature,
        quantity="cosine",
        channel_names=None,
        image_names=None,
        ax=None,
        **kwargs,
    ):
        """Draw the heatmaps of a feature of a fitted dictionary.

        Parameters
        ----------
        estimator : estimator instance
            Fitted dictionary, or a fitted :class:`~sklearn.pipeline.Pipeline` whose
            last step is one.
        X : array-like of shape (n_images * height * width, n_features)
            Tokens of the images, row by row of each grid, as `TokenExtractor` with
            ``pool=None`` gives them.
        images : array-like of shape (n_images, rows, columns, n_channels), or list
            The images, channels last, or a list of images of different sizes. One
            image may come by itself.
        grid_shape : tuple of int, (height, width)
            The grid of tokens.
        feature : int
            Index of the feature.
        quantity : {"cosine", "activation"}, default="cosine"
            The cosine of the feature's direction with each token, as it reaches the
            dictionary; or the feature's value in the codes.
        channel_names : list of str, default=None
            Names of the channels.
        image_names : list of str, default=None
            Names of the images.
        ax : matplotlib Axes or array-like of them, default=None
            As many axes as there are panels. None makes a figure.
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
        heatmaps,
        images,
        *,
        quantity="cosine",
        feature=None,
        channel_names=None,
        image_names=None,
        ax=None,
        **kwargs,
    ):
        """Draw given heatmaps.

        Parameters
        ----------
        heatmaps : array-like of shape (n_images, height, width) or (height, width)
            One value per token, as `token_heatmaps` lays them out.
        images : array-like of shape (n_images, rows, columns, n_channels), or list
            The images, as for :meth:`from_estimator`.
        quantity : {"cosine", "activation"}, default="cosine"
            What the values are.
        feature : int, default=None
            Index of the feature, for the colour bar's label.
        channel_names : list of str, default=None
            Names of the channels.
        image_names : list of str, default=None
            Names of the images.
        ax : matplotlib Axes or array-like of them, default=None
            As many axes as there are panels. None makes a figure.
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


def _check_views(views, names):
    """Views as names of panels and indices of channels."""
    if views is None:
        # The composite of one channel is the channel.
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
