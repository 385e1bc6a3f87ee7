"""One self-contained HTML page out of the numbers of a report.

The page asks for nothing from the network. The table of the features is read when it
loads; cards and pictures lie in chunks behind it, and the browser reads a chunk when
one of its cards is opened.
"""

import base64
import gzip
import hashlib
import html
import json
from importlib.resources import files
from itertools import islice
from string import Template

from skdict._utils.files import write_file

# Features to a chunk of cards, images to a chunk of thumbnails: some 100 kB each, so
# that the first card of a chunk opens as fast as the others.
CHUNK_SIZE = 64

# JPEG and PNG by their first bytes; what else a browser draws may hold a program.
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")

# In JSON these stand inside strings only. Written as escapes, no label can end the
# script element or open a comment in it; the other special characters, U+2028 among
# them, are escaped by json itself, which writes ASCII.
_ESCAPES = {ord(character): f"\\u{ord(character):04x}" for character in "<>&"}


def write_page(path, report, cards, thumbnails):
    """Write a report as one HTML file.

    Parameters
    ----------
    path : str or path-like
        The file; an existing one is replaced, as a whole or not at all.
    report : dict
        JSON values: "title", "overview", "notes", "columns", "features", "grid" and
        "image_shape"; None where a figure is undefined.
    cards : iterable of dict
        One for each feature, in their order: "labels", "histograms", "neighbours",
        "images", "heatmap_range" and "notes". Read one chunk at a time.
    thumbnails : iterable of bytes
        JPEG or PNG, one for each image to which a card refers by its number.

    Returns
    -------
    n_bytes : int
        The size of the file.

    Raises
    ------
    ValueError
        If a value is NaN or infinite, the columns differ in length, there are not as
        many cards as features, or a thumbnail is neither JPEG nor PNG.
    """
    parts = _parts(report, cards, thumbnails)
    return write_file(path, (part.encode("ascii") for part in parts))


def _parts(report, cards, thumbnails):
    """The text of the page, piece by piece; all of it is ASCII."""
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
    # Pictures are compressed already.
    for chunk in _chunks(_checked_thumbnails(thumbnails)):
        yield _data_block("thumbnails", n_images, "\n".join(chunk))
        n_images += len(chunk)
    yield tail


def _asset(name):
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _escaped(text):
    """As text in HTML; what is not ASCII by its number."""
    return html.escape(text).encode("ascii", "xmlcharrefreplace").decode()


def _ascii(text):
    text.encode("ascii")  # its hash must not depend on the encoding of the page
    return text


def _content_security_policy(style, script):
    """Allow this style and this script, pictures within the page, and nothing else."""

    def source(text):
        digest = hashlib.sha256(text.encode("ascii")).digest()
        return f"'sha256-{base64.b64encode(digest).decode()}'"

    return (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src {source(style)}; script-src {source(script)}"
    )


def _chunks(items):
    items = iter(items)
    while chunk := list(islice(items, CHUNK_SIZE)):
        yield chunk


def _data_block(name, first, text):
    attributes = f'type="text/plain" class="{name}" data-first="{first}"'
    return f"<script {attributes}>{text}</script>\n"


def _json(value, what):
    try:
        text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} cannot be written: {error}.") from error
    return text.translate(_ESCAPES)


def _check_report(report):
    """The number of features, after a check of what the page relies on."""
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


def _checked_cards(cards, grid):
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


def _checked_thumbnails(thumbnails):
    for image, data in enumerate(thumbnails):
        if not data.startswith(_SIGNATURES):
            raise ValueError(f"Thumbnail {image} is neither JPEG nor PNG.")
        yield base64.b64encode(data).decode()
