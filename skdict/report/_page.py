"""Writer of the self-contained HTML page of a report.

The page requests nothing from the network. The browser reads the table of features
when the page loads. Cards and pictures follow in chunks; the browser reads a chunk when
one of its cards is opened.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
import os
from collections.abc import Iterable, Iterator
from importlib.resources import files
from itertools import islice
from string import Template
from typing import Any

from skdict._utils.files import write_file

# Number of features in a chunk of cards, and of images in a chunk of thumbnails: about
# 100 kB, so that the first card of a chunk opens as fast as the others.
CHUNK_SIZE = 64

# First bytes of JPEG and PNG. Other formats that a browser draws may hold programs.
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")

# In JSON these characters occur only inside strings. They are written as escapes, so
# that no label can end the script element or open a comment in it. json escapes all
# characters outside ASCII itself, among them U+2028.
_ESCAPES = {ord(character): f"\\u{ord(character):04x}" for character in "<>&"}


def write_page(
    path: str | os.PathLike[str],
    report: dict[str, Any],
    cards: Iterable[dict[str, Any]],
    thumbnails: Iterable[bytes],
) -> int:
    """Write a report as one HTML file.

    Parameters
    ----------
    path : str or path-like
        The file; an existing one is replaced, as a whole or not at all.
    report : dict
        JSON values: "title", "overview", "notes", "columns", "features", "grid" and
        "image_shape". Undefined numbers are None.
    cards : iterable of dict
        One for each feature, in the order of the features: "labels", "histograms",
        "neighbours", "images", "heatmap_range" and "notes". It is read one chunk at a
        time.
    thumbnails : iterable of bytes
        JPEG or PNG, one for each image to which a card refers by its number.

    Returns
    -------
    n_bytes : int
        The size of the file.

    Raises
    ------
    ValueError
        If a value is NaN or infinite, if the columns differ in length, if the numbers
        of cards and features differ, or if a thumbnail is neither JPEG nor PNG.
    """
    parts = _parts(report, cards, thumbnails)
    return write_file(path, (part.encode("ascii") for part in parts))


def _parts(
    report: dict[str, Any], cards: Iterable[dict[str, Any]], thumbnails: Iterable[bytes]
) -> Iterator[str]:
    """Yield the text of the page in pieces, in ASCII."""
    n_features = _check_report(report)
    head, _, tail = _asset("page.html").partition("$chunks")
    style, script = _ascii(_asset("page.css")), _ascii(_asset("page.js"))
    yield Template(head).substitute(
        title=_escaped(report["title"]),
        policy=_content_security_policy(style, script),
        style=style,
        report=_json(report, "the report"),
        chunk_size=CHUNK_SIZE,
        script=script,
    )
    n_cards = 0
    for chunk in _chunks(_checked_cards(cards, report["grid"])):
        packed = gzip.compress(f"[{','.join(chunk)}]".encode("ascii"), 6, mtime=0)
        yield _data_block("cards", n_cards, base64.b64encode(packed).decode())
        n_cards += len(chunk)
    if n_cards != n_features:
        raise ValueError(f"{n_features} features, but {n_cards} cards.")
    n_images = 0
    # JPEG and PNG are compressed already.
    for chunk in _chunks(_checked_thumbnails(thumbnails)):
        yield _data_block("thumbnails", n_images, "\n".join(chunk))
        n_images += len(chunk)
    yield tail


def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _escaped(text: str) -> str:
    """Escape text for HTML, with numbers for characters outside ASCII."""
    return html.escape(text).encode("ascii", "xmlcharrefreplace").decode()


def _ascii(text: str) -> str:
    text.encode("ascii")  # its hash must not depend on the encoding of the page
    return text


def _content_security_policy(style: str, script: str) -> str:
    """Allow this style, this script and pictures in the page, and nothing else."""

    def source(text: str) -> str:
        digest = hashlib.sha256(text.encode("ascii")).digest()
        return f"'sha256-{base64.b64encode(digest).decode()}'"

    return (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src {source(style)}; script-src {source(script)}"
    )


def _chunks(items: Iterable[str]) -> Iterator[list[str]]:
    items = iter(items)
    while chunk := list(islice(items, CHUNK_SIZE)):
        yield chunk


def _data_block(name: str, first: int, text: str) -> str:
    attributes = f'type="text/plain" class="{name}" data-first="{first}"'
    return f"<script {attributes}>{text}</script>\n"


def _json(value: Any, what: str) -> str:
    try:
        text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} cannot be written: {error}.") from error
    return text.translate(_ESCAPES)


def _check_report(report: dict[str, Any]) -> int:
    """Check what the page relies on, and return the number of features."""
    features = report["features"]
    keys = [column["key"] for column in report["columns"]]
    if not features or next(iter(features)) != "feature" or keys[:1] != ["feature"]:
        raise ValueError('The first column of a report is "feature", the names.')
    if missing := [key for key in keys if key not in features]:
        raise ValueError(f"Columns without values: {', '.join(missing)}.")
    n_features = len(features["feature"])
    for key, values in features.items():
        if len(values) != n_features:
            raise ValueError(
                f'{n_features} features, but {len(values)} values of "{key}".'
            )
    return n_features


def _checked_cards(
    cards: Iterable[dict[str, Any]], grid: list[int] | None
) -> Iterator[str]:
    # base64 writes three bytes as four characters.
    n_expected = None if grid is None else 4 * -(-grid[0] * grid[1] // 3)
    for feature, card in enumerate(cards):
        for group in card["images"]:
            for item in group["items"]:
                heatmap = item["heatmap"]
                if heatmap is not None and len(heatmap) != n_expected:
                    raise ValueError(
                        f"The card of feature {feature} has a heatmap of "
                        f"{len(heatmap)} characters; the grid {grid} makes "
                        f"{n_expected}."
                    )
        yield _json(card, f"The card of feature {feature}")


def _checked_thumbnails(thumbnails: Iterable[bytes]) -> Iterator[str]:
    for image, data in enumerate(thumbnails):
        if not data.startswith(_SIGNATURES):
            raise ValueError(f"Thumbnail {image} is neither JPEG nor PNG.")
        yield base64.b64encode(data).decode()
