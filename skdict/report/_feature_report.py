"""One HTML page with all features of a dictionary."""

from __future__ import annotations

import html
import json
import os
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted
from tqdm.auto import tqdm

from skdict._utils.constraints import Interval
from skdict._utils.files import check_destination
from skdict._utils.labels import is_missing
from skdict._utils.sklearn_private import num_samples, validate_parameter_constraints
from skdict._utils.steps import steps_of, unfrozen
from skdict._utils.table import as_table
from skdict._utils.types import Data, Seed
from skdict._utils.warn import warn
from skdict.inspection.estimators import fitted_attribute, name_of
from skdict.rows import in_memory
from skdict.stats import are_neighbours_alike, can_permute

from ._cards import gen_cards
from ._features import Column, check_names, describe, to_columns
from ._inputs import (
    encode_rows,
    encoded_rows,
    images_of,
    labels_of,
    lay_out,
    mask_of,
    rows_of,
    sort_metadata,
)
from ._page import write_page
from ._pictures import choose_pictures

_MAX_CAPTION = 80

# Parameters that change no numbers.
_OF_THE_PAGE = ("rgb", "verbose")


class FeatureReport:
    """A page on which all features of a dictionary can be sorted, searched and opened.

    Parameters
    ----------
    estimator : estimator instance
        Fitted dictionary, or a fitted :class:`~sklearn.pipeline.Pipeline` whose last
        step is one: :class:`~skdict.ICFL`, :class:`~skdict.TopKSAE`, or any
        transformer with `components_`.

    X : array-like of shape (n_rows, n_features)
        Rows, as `estimator` takes them. With `images`, one row per image, or the
        tokens of each image in the order of `TokenExtractor` with ``pool=None``: image
        by image and row by row of the grid. zarr, HDF5 and Dask arrays are read, if
        half of the working memory has room for them.

    y : array-like of shape (n_rows,) or (n_images,), default=None
        Labels, of at least two classes. None makes a report without labels.

    images : array-like of shape (n_images, height, width[, n_channels]), default=None
        Images of one size, channels last. They may be a list or a memory map. None
        makes cards without images.

    metadata : dict of array-like or DataFrame, default=None
        Columns with one value per row or per image. A column of at most 256 values that
        repeat counts as a batch: the list says which features follow it (see Notes).
        Other columns, such as names of wells and measurements, become captions of the
        images. Cut a numeric quantity that might explain features into classes first.

    grid_shape : "auto", tuple of int (height, width) or None, default="auto"
        The grid of an image's tokens. "auto" means a square grid. None means that the
        rows of an image are not a grid, for instance because they are drawn from its
        tokens; the cards then have no heatmaps.

    rgb : bool, default=None
        Whether the channels of `images` are red, green and blue, to be shown as they
        are. None means True if there are three channels, in bytes or within [0, 1].
        Other channels are made brighter, with the same limits in all images, and added
        up, each in its own colour, as in :class:`HeatmapDisplay`.

    groups : array-like of shape (n_rows,) or (n_images,), default=None
        Rows that are not independent: the image of each row, or the well or the patient
        of each image. None means that the rows of an image are a group; without images,
        each row is independent.

    control : array-like of shape (n_rows,) or (n_images,), default=None
        Boolean or 0/1 array of the controls to which the whitening was fitted. Nothing
        is exchanged between them and others under the null hypothesis, as in
        :func:`~skdict.metrics.selectivity_report`.

    activity_threshold : float, default=0.0
        A feature fires on a row if ``|z| > activity_threshold``.

    alpha : float, default=0.05
        False discovery rate up to which a feature counts as selective.

    n_permutations : int, default=100
        Number of permutations for the null of the scores. With 0 there is no null.

    random_state : int, RandomState instance or None, default=0
        Seed of the permutations. The default is an int, unlike that of other functions,
        because a page is a document: if it is written again it should be the same.

    verbose : int, default=0
        Whether to show a progress bar.

    See Also
    --------
    skdict.metrics.describe_features : The same tests as a table.
    skdict.metrics.selectivity_report : The same null of the scores.
    GalleryDisplay : The images of one feature as a figure.

    Notes
    -----
    **Nulls.** The labels decide what is exchanged. If all rows of each group share
    their label, as the tokens of a labelled image do, the labels of whole groups are
    exchanged: a permutation of rows would treat thousands of tokens as independent. If
    groups hold whole images, for instance those of a patient, labels that differ inside
    a group are exchanged between its images. If labels differ between the tokens of an
    image, its label map is shifted over the grid, because neighbouring tokens are alike
    (`grid_shape` in :func:`~skdict.metrics.selectivity_tests`). Without a grid, or if
    `groups` or `control` differs inside images, labels are exchanged row by row inside
    the groups; there is a warning if labels are then alike for neighbours on a known
    grid.

    The q-values are those of :func:`~skdict.metrics.selectivity_tests`. They control
    the false discovery rate over all features and labels. The null of a score is the
    95 % quantile, over permutations, of the score of the best feature for that label.

    **Flags.** A feature follows a batch if it is selective for one of the batches, but
    not for any label when labels are exchanged only inside the batches. This is the
    rule of :func:`~skdict.metrics.describe_features`. Without labels only the first
    condition counts.

    **Images.** Images are ranked by the mean cosine of their rows with the atom.
    Heatmaps show the cosines of the tokens, as these reach the dictionary. They are
    reduced to a coarser grid by means. A value is stored as one byte between the
    smallest and the largest value of its card, with an error of at most 1/510 of that
    range (plus 0.0001).

    **Size.** Pictures are reduced until the page is smaller than 30 MB for up to 8192
    features. Thumbnails have 512 to 24 pixels on the longer side and heatmaps 32 to 6
    cells, or fewer if that is not enough. If even the smallest do not fit, a card shows
    fewer images than 5 most and 3 least aligned. With more than 8192 features the page
    grows by their text. Only images that a card shows are stored, each of them once.

    Features are processed in batches: no array holds all rows times all features. The
    numbers are computed when they are first needed, and again if a parameter has been
    replaced since, for instance by ``report.alpha = 0.01``. A change inside `X` or
    another array is not noticed.

    Examples
    --------
    >>> import tempfile, os
    >>> from sklearn.datasets import load_digits
    >>> from skdict import ICFL
    >>> from skdict.report import FeatureReport
    >>> X, y = load_digits(return_X_y=True)
    >>> dictionary = ICFL(32, 4, max_iter=2, random_state=0).fit(X)
    >>> report = FeatureReport(dictionary, X, y, verbose=False)
    >>> report.to_frame().columns[:4].tolist()
    ['feature', 'density', 'best_label', 'score']
    >>> path = report.to_html(os.path.join(tempfile.mkdtemp(), "digits.html"))
    >>> path.name
    'digits.html'
    """

    _parameter_constraints: dict[str, Any] = {
        "activity_threshold": [Interval(Real, 0, None, closed="left")],
        "alpha": [Interval(Real, 0, 1, closed="right")],
        "n_permutations": [Interval(Integral, 0, None, closed="left")],
        "random_state": ["random_state"],
        "rgb": ["boolean", None],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        estimator: Any,
        X: Data,
        y: Data | None = None,
        *,
        images: Any = None,
        metadata: Data | None = None,
        grid_shape: Any = "auto",
        rgb: bool | None = None,
        groups: Data | None = None,
        control: Data | None = None,
        activity_threshold: float = 0.0,
        alpha: float = 0.05,
        n_permutations: int = 100,
        random_state: Seed = 0,
        verbose: int = 0,
    ) -> None:
        self.estimator = estimator
        self.X = X
        self.y = y
        self.images = images
        self.metadata = metadata
        self.grid_shape = grid_shape
        self.rgb = rgb
        self.groups = groups
        self.control = control
        self.activity_threshold = activity_threshold
        self.alpha = alpha
        self.n_permutations = n_permutations
        self.random_state = random_state
        self.verbose = verbose
        self._computed: dict[str, Any] = {}
        self._computed_from: dict[str, Any] | None = None

    def __repr__(self) -> str:
        steps = map(unfrozen, steps_of(self.estimator))
        *_, last = (type(step).__name__ for step in steps)
        parts = [last, f"{num_samples(self.X)} rows"]
        if hasattr(self.images, "__len__"):
            parts.append(f"{len(self.images)} images")
        return f"FeatureReport({', '.join(parts)})"

    def _repr_html_(self) -> str:
        text = html.escape(repr(self))
        return f"<code>{text}</code>: <code>to_html(path)</code> writes the page."

    def to_frame(self) -> pd.DataFrame:
        """Return the list of features.

        Returns
        -------
        features : DataFrame
            One row per feature, in the order of the features, with the columns of the
            page. Undefined numbers are None or NaN.
        """
        values, _ = to_columns(self._compute()["features"])
        return as_table(values)

    def column_help(self) -> dict[str, str]:
        """Return what the columns of the list of features mean.

        Returns
        -------
        help : dict of str to str
            One or two sentences for each column of :meth:`to_frame`, by its name.
        """
        _, columns = to_columns(self._compute()["features"])
        return {column["key"]: column["help"] for column in columns}

    def to_html(
        self, path: str | os.PathLike[str], *, title: str | None = None
    ) -> Path:
        """Write the page.

        Parameters
        ----------
        path : str or path-like
            The file. An existing file is replaced as a whole or not at all, and keeps
            its permissions. If it is a symbolic link, the file behind it is replaced.
            The folder must exist.
        title : str, default=None
            Title of the page. None means the class of the dictionary and its size.

        Returns
        -------
        path : Path
            The file.

        Raises
        ------
        FileNotFoundError
            If the folder does not exist, or `path` is empty.
        IsADirectoryError
            If `path` is a folder.
        FileExistsError
            If `path` exists and is not a file, but for instance a device.
        PermissionError
            If the file or its folder is read-only.
        ValueError
            If `title` is not a str, if lengths do not match, if rows, labels, batches
            or images hold missing values, or if the estimator raises it.
        """
        if not isinstance(title, str | None):
            raise ValueError(f"title must be a str or None, got {title!r}.")
        check_destination(path)  # now, not after minutes of work
        path = Path(os.fsdecode(path))
        computed = self._compute()
        features, encoded = computed["features"], computed["encoded"]
        layout = computed["layout"]
        values, columns = to_columns(features)
        columns_text = {key: _jsonable(column) for key, column in values.items()}
        n_features = len(features.names)
        report: dict[str, Any] = {
            "title": title or f"{name_of(self.estimator)}: {n_features} features",
            "overview": self._overview(computed),
            "notes": self._notes(computed),
            "columns": columns,
            "features": columns_text,
            "grid": None,
            "image_shape": None,
        }
        pictures, captions = None, []
        if layout.n_images is not None:
            captions = self._captions(computed)
            pictures = choose_pictures(
                encoded,
                layout,
                self.images,
                captions,
                len(json.dumps(report)),
                self.rgb,
            )
            report["grid"] = None if pictures.grid is None else list(pictures.grid)
            report["image_shape"] = list(pictures.image_shape)
        with self._progress(n_features, "cards", "feature") as bar:
            cards = gen_cards(encoded, features, layout, pictures, captions, bar.update)
            write_page(path, report, cards, pictures.thumbnails if pictures else [])
        return path

    def _progress(self, total: int, desc: str, unit: str) -> Any:
        return tqdm(total=total, desc=desc, unit=unit, disable=not self.verbose)

    def _compute(self) -> dict[str, Any]:
        """Compute everything but the cards, again only if a parameter was replaced."""
        validate_parameter_constraints(
            self._parameter_constraints,
            {name: getattr(self, name) for name in self._parameter_constraints},
            caller_name="FeatureReport",
        )
        given = {name: value for name, value in vars(self).items() if name[0] != "_"}
        for name in _OF_THE_PAGE:
            del given[name]
        before = self._computed_from
        if before is not None and all(before[name] is given[name] for name in given):
            return self._computed
        self._computed_from = None
        check_is_fitted(self.estimator)
        fitted_attribute(self.estimator, "components_")
        layout = lay_out(self.X, self.images, self.grid_shape)
        y = None
        if self.y is not None:
            y = labels_of(self.y, "y", layout)
            if len(np.unique(y)) < 2:
                raise ValueError(f"y needs at least two classes; it holds only {y[0]}.")
            y = rows_of(y, layout)
        groups = encoded_rows(self.groups, "groups", layout)
        control = None
        if self.control is not None:
            control = mask_of(self.control, "control", layout).astype(np.intp)
        metadata = sort_metadata(self.metadata, layout, groups)
        check_names(metadata.confounds, y is not None)
        nested_groups = [] if groups is None else [groups]
        if layout.n_images is not None:
            image_ids = np.repeat(np.arange(layout.n_images), layout.per_image)
            # Labels that differ inside a group may still be shared inside an image.
            if groups is None or not can_permute(groups, image_ids):
                nested_groups.append(image_ids)

        with self._progress(layout.n_rows, "codes", "row") as bar:
            X = in_memory(self.X, "FeatureReport")
            encoded = encode_rows(self.estimator, X, bar.update)
        features = describe(
            encoded.names,
            encoded.codes,
            y,
            metadata.confounds,
            nested_groups=nested_groups,
            control=control,
            grid_shape=layout.grid_shape,
            alpha=self.alpha,
            activity_threshold=self.activity_threshold,
            n_permutations=self.n_permutations,
            random_state=self.random_state,
        )
        label = features.label
        if label is not None and label.tests.exchange.by_rows and layout.grid_shape:
            self._warn_of_smooth_labels(label.ids, layout.grid_shape)
        self._computed = {
            "layout": layout,
            "encoded": encoded,
            "features": features,
            "metadata": metadata,
            "y": y,
        }
        self._computed_from = given
        return self._computed

    def _warn_of_smooth_labels(
        self, ids: np.ndarray, grid_shape: tuple[int, int]
    ) -> None:
        if are_neighbours_alike(ids, grid_shape):
            warn(
                "y is alike for neighbouring tokens, but is exchanged token by token, "
                "because groups or control differs inside images: the q-values are "
                "too small. Without these, label maps are shifted instead.",
            )

    def _captions(self, computed: dict[str, Any]) -> list[str]:
        """Write the captions of the images: label and metadata."""
        layout, y = computed["layout"], computed["y"]
        columns = []
        if y is not None and (labels := images_of(y, layout)) is not None:
            columns.append([*map(str, labels.tolist())])
        for name, values in computed["metadata"].captions.items():
            columns.append(
                [
                    "" if missing else f"{name} {value}"
                    for value, missing in zip(
                        values.tolist(), is_missing(values), strict=True
                    )
                ]
            )
        if not columns:
            return [f"image {i}" for i in range(layout.n_images)]
        captions = [
            " \N{MIDDLE DOT} ".join(filter(None, parts)) or f"image {i}"
            for i, parts in enumerate(zip(*columns, strict=True))
        ]
        return [
            c
            if len(c) <= _MAX_CAPTION
            else c[: _MAX_CAPTION - 1] + "\N{HORIZONTAL ELLIPSIS}"
            for c in captions
        ]

    def _overview(self, computed: dict[str, Any]) -> list[dict[str, str]]:
        layout, features = computed["layout"], computed["features"]
        metadata, alpha = computed["metadata"], features.alpha
        steps = map(unfrozen, steps_of(self.estimator))
        rows = [
            ("Dictionary", ", ".join(type(step).__name__ for step in steps)),
            ("Features", f"{len(features.names):,}"),
            ("Rows", f"{layout.n_rows:,}"),
        ]
        if layout.n_images is not None:
            tokens = f"{layout.per_image:,} rows each"
            if layout.grid_shape is not None:
                tokens = "{} x {} tokens each".format(*layout.grid_shape)
            rows.append(("Images", f"{layout.n_images:,}, {tokens}"))
        fires = features.n_active > 0
        rows += [
            ("Features that fire", f"{fires.sum():,}"),
            ("Median density of these", _percent(np.median(features.density[fires])))
            if fires.any()
            else ("Median density", "0"),
            (
                "Active features per row",
                f"{features.n_active.sum() / layout.n_rows:.1f}",
            ),
        ]
        if (label := features.label) is not None:
            rows.append(
                ("Labels", f"{len(label.levels)}: {_sizes(label)}"),
            )
            q_values = label.tests.q_values
            rows.append(
                (
                    f"Features selective for a label (q up to {100 * alpha:g} %)",
                    f"{(q_values <= alpha).any(axis=0).sum():,}",
                )
            )
            if label.null is not None:
                above = (label.tests.scores > label.null[:, None]).any(axis=0)
                rows.append(
                    ("Features with a score above its null", f"{above.sum():,}")
                )
        for name, column in features.confounds.items():
            rows.append((name, f"{len(column.levels)}: {_sizes(column)}"))
            rows.append(
                (f"Features that follow {name}", f"{features.follows(name).sum():,}")
            )
        rows += metadata.constants.items()
        return [{"name": name, "value": value} for name, value in rows]

    def _notes(self, computed: dict[str, Any]) -> list[str]:
        layout, features = computed["layout"], computed["features"]
        notes = [*features.notes]
        if (features.n_active == layout.n_rows).all():
            notes.append(
                "Every feature fires on every row, so all scores are 0. Codes that are "
                "not sparse need a threshold."
            )
        if (label := features.label) is not None and label.tests.exchange.by_rows:
            if layout.grid_shape is not None:
                notes.append(
                    "Neighbouring tokens of an image are alike. Labels are exchanged "
                    "token by token, because groups or control differ inside images; "
                    "the q-values are therefore smaller and the nulls lower than they "
                    "should be. Without these, label maps are shifted."
                )
            elif self.groups is None and layout.n_images is None:
                notes.append(
                    "Rows are taken as independent. If several come from one image or "
                    "well, pass groups."
                )
        if computed["metadata"].unused:
            notes.append(
                "Not tested, because they are not batches: "
                f"{', '.join(computed['metadata'].unused)}."
            )
        return notes


def _sizes(column: Column) -> str:
    sizes = [
        f"{level} ({size:,} rows)"
        for level, size in zip(column.levels, column.tests.sizes, strict=True)
    ]
    return ", ".join(sizes[:10]) + (", ..." if len(sizes) > 10 else "")


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.3g} %"


def _jsonable(column: Any) -> list[Any]:
    """Convert a column to a list of JSON values with few digits."""
    if isinstance(column, list):
        return column
    if column.dtype.kind == "f":
        return [None if np.isnan(v) else float(f"{v:.4g}") for v in column]
    return column.tolist()
