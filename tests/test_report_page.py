"""Tests of the page of a report: the file, and what a browser makes of it."""

import base64
import gzip
import hashlib
import io
import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from numpy.testing import assert_allclose
from PIL import Image
from sklearn.datasets import load_digits

from skdict import ICFL
from skdict.report import FeatureReport, _page
from skdict.report._page import CHUNK_SIZE, write_page

ROOT = Path(__file__).parents[1]

LABELS = ["stroma", "DAB+", "gland", "vessel", "lymphocytes", "blank", "necrosis"]
COLUMNS = [
    ("feature", "Feature", "text", "Name of the feature."),
    ("density", "Density", "fraction", "Fraction of the tokens on which it fires."),
    ("best_label", "Best label", "text", "The label that it marks best."),
    ("score", "Score", "number", "Selectivity for the best label, between 0 and 1."),
    ("null", "Null", "number", "95 % quantile of the score with permuted labels."),
    ("q", "q", "q", "Smallest false discovery rate of a discovery."),
    ("n_active", "Active", "count", "Number of tokens on which it fires."),
    ("batch", "Batch flag", "flag", "Whether it follows the batch more than a label."),
]


def make_report(n_features=640, seed=0):
    """A made-up report; every eleventh feature is dead, so most is undefined."""
    rng = np.random.default_rng(seed)
    dead = np.arange(n_features) % 11 == 10
    density = np.where(dead, 0, rng.beta(0.4, 12, n_features))
    score = rng.beta(2, 6, n_features)

    def defined(values):
        return [None if d else v for v, d in zip(values, dead, strict=True)]

    features = {
        "feature": [f"icfl{i}" for i in range(n_features)],
        "density": density.tolist(),
        "best_label": defined([LABELS[i] for i in rng.integers(0, 7, n_features)]),
        "score": defined(score.tolist()),
        "null": defined(rng.beta(2, 20, n_features).tolist()),
        "q": defined(np.round(np.exp(-12 * score), 6).tolist()),
        "n_active": np.round(density * 104_976).astype(int).tolist(),
        "batch": defined((rng.random(n_features) < 0.06).tolist()),
    }
    return {
        "title": "ICFL on tissue tokens",
        "overview": [
            {"name": "Estimator", "value": "ICFL(k=20, n_components=640)"},
            {"name": "Rows", "value": "104,976 tokens of 324 images"},
            {"name": "Explained variance", "value": "0.81 (held out)"},
            {"name": "Dead features", "value": f"{dead.sum()} of {n_features}"},
            {"name": "Labels", "value": "7, of which stroma is the reference"},
        ],
        "notes": [
            "Scores are of the rows on which the labels were chosen; the null is of "
            "the same rows with permuted labels.",
            "A feature with the batch flag follows the batch more than any label.",
        ],
        "columns": [
            dict(zip(("key", "label", "kind", "help"), column, strict=True))
            for column in COLUMNS
        ],
        "features": features,
        "grid": [12, 16],
        "image_shape": [96, 128],
    }


def heatmap_of(feature, image, grid):
    """A blob on nothing, as a feature that fires on one structure."""
    rng = np.random.default_rng((feature, image))
    y, x = np.mgrid[: grid[0], : grid[1]]
    centre = rng.random(2) * grid
    blob = np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / 8)
    return np.where(blob > 0.1, 255 * blob, 0).astype(np.uint8)


def make_cards(report, n_images=96, seed=1):
    features, grid = report["features"], report["grid"]
    n_features = len(features["feature"])
    rng = np.random.default_rng(seed)
    bins = np.linspace(0, 6, 25)
    for feature in range(n_features):
        if features["score"][feature] is None:
            yield {
                "labels": [],
                "histograms": [],
                "neighbours": [],
                "images": [],
                "heatmap_range": None,
                "notes": ["This feature fires on none of the rows."],
            }
            continue
        scores = np.sort(rng.random(7))[::-1] * features["score"][feature]
        series = []
        for label, scale in (("stroma", 1.0), ("DAB+", 0.4), ("other", 0.2)):
            values = rng.exponential(scale, 400)
            fractions = np.histogram(values, bins)[0] / 400
            series.append({"name": label, "fractions": fractions.tolist()})
        groups = []
        for title, n in (("Most active", 8), ("Least aligned", 4)):
            items = []
            for image in rng.choice(n_images, n, replace=False).tolist():
                heatmap = heatmap_of(feature, image, grid)
                items.append(
                    {
                        "image": image,
                        "caption": f"image {image}, {LABELS[image % 7]}",
                        "value": float(rng.random() * 5),
                        "heatmap": base64.b64encode(heatmap.tobytes()).decode(),
                    }
                )
            groups.append({"title": title, "items": items})
        yield {
            "labels": [
                {
                    "name": LABELS[i],
                    "rate": float(rng.beta(0.4, 4)),
                    "score": float(scores[i]),
                    "null": None if i == 6 else float(rng.random() * 0.2),
                    "q": None if i == 6 else float(rng.random() ** 3),
                }
                for i in range(7)
            ],
            "histograms": [
                {
                    "title": "Activation where it fires",
                    "xlabel": "activation",
                    "edges": bins.tolist(),
                    "series": series,
                },
                {
                    "title": "Direction of all tokens",
                    "xlabel": "cosine with the atom",
                    "edges": np.linspace(-0.4, 0.8, 25).tolist(),
                    "series": series[:1],
                },
            ],
            "neighbours": [
                {"feature": int(other), "cosine": float(cosine)}
                for other, cosine in zip(
                    rng.choice(n_features, min(6, n_features), replace=False),
                    np.sort(rng.random(6))[::-1],
                    strict=False,
                )
            ],
            "images": groups,
            "heatmap_range": [0.0, float(rng.random() * 5 + 1)],
            "notes": [],
        }


def make_thumbnails(report, n_images=96, format="JPEG"):
    height, width = report["image_shape"]
    for image in range(n_images):
        rng = np.random.default_rng(image)
        y, x = np.mgrid[:height, :width]
        picture = np.full((height, width, 3), (236, 224, 232), dtype=float)
        for _ in range(60):
            centre, radius = rng.random(2) * (height, width), 3 + 6 * rng.random()
            inside = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2
            picture[inside] = np.array([120, 80, 140]) + 50 * rng.random(3)
        file = io.BytesIO()
        Image.fromarray(picture.astype(np.uint8)).save(file, format, quality=70)
        yield file.getvalue()


def write(path, report, cards=None, thumbnails=()):
    cards = make_cards(report) if cards is None else cards
    return write_page(path, report, cards, thumbnails)


# ------------------------------------------------------------------------- the file

# What labels of others may hold; none of it may run, all of it is shown as it is.
NASTY = [
    "</script><img src=x onerror=\"document.title='run'\">",
    "<!--<script>document.title='run'</script>",
    "javascript:document.title='run'",
    "<svg onload=document.title='run'>",
    "$title $report ${style} $$",
    "a\u2028b\u2029c \x00\x07",
    "\"double\" 'single' `back` \\ \\u003c &lt; &amp;",
    "\u202etfel ot thgir\u202c",
    "x" * 10_000,
    "",
    "__proto__",
    "Bindegewebe \N{LATIN SMALL LETTER A WITH DIAERESIS}\U0001f9ec",
    "lone \ud800 surrogate",
]


def nasty_report(texts=NASTY):
    """Every text that can be set is untrusted, on the page and in the cards."""
    n = len(texts)
    report = make_report(n)
    report["title"] = texts[0]
    report["overview"] = [{"name": text, "value": text} for text in texts]
    report["notes"] = list(texts)
    report["features"]["feature"] = list(texts)
    report["features"]["best_label"] = list(texts)
    for column in report["columns"]:
        column["help"] = texts[0]
    report["columns"][3]["label"] = texts[1]
    report["columns"][5]["key"] = texts[0]
    report["features"][texts[0]] = report["features"].pop("q")
    cards = list(make_cards(report, n_images=n))
    alive = [i for i, card in enumerate(cards) if card["labels"]]
    for i in alive:
        card, text = cards[i], texts[i]
        for part in card["labels"] + card["histograms"][0]["series"]:
            part["name"] = text
        for part in card["histograms"]:
            part["title"] = part["xlabel"] = text
        for group in card["images"]:
            group["title"] = text
            for item in group["items"]:
                item["caption"] = text
        card["notes"] = [text]
    return report, cards, alive


def blocks(text, kind):
    """(first number, content) of the page's chunks of cards or thumbnails."""
    pattern = rf'<script type="text/plain" class="{kind}" data-first="(\d+)">([^<]*)<'
    return [(int(first), content) for first, content in re.findall(pattern, text)]


def unpacked(content):
    return json.loads(gzip.decompress(base64.b64decode(content, validate=True)))


def test_file_holds_what_it_was_given(tmp_path):
    report = make_report(CHUNK_SIZE + 10)
    cards = list(make_cards(report, n_images=CHUNK_SIZE + 3))
    thumbnails = list(make_thumbnails(report, CHUNK_SIZE + 3))
    path = tmp_path / "report.html"
    n_bytes = write(path, report, iter(cards), iter(thumbnails))
    assert n_bytes == path.stat().st_size
    text = path.read_text(encoding="ascii")
    (found,) = re.findall(r'id="report" data-chunk="64">([^<]*)</script>', text)
    assert json.loads(found) == report
    chunks = blocks(text, "cards")
    assert [first for first, _ in chunks] == [0, CHUNK_SIZE]
    assert [card for _, part in chunks for card in unpacked(part)] == cards
    chunks = blocks(text, "thumbnails")
    assert [first for first, _ in chunks] == [0, CHUNK_SIZE]
    found = [base64.b64decode(line) for _, part in chunks for line in part.split()]
    assert found == thumbnails


def test_same_report_is_the_same_file(tmp_path):
    for name in ("one", "two"):
        write(tmp_path / name, make_report(70))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_no_text_can_end_an_element_or_is_lost(tmp_path):
    report, cards, _ = nasty_report()
    write(tmp_path / "report.html", report, cards)
    text = (tmp_path / "report.html").read_text(encoding="ascii")
    clean = make_report(len(NASTY))
    write(tmp_path / "clean.html", clean, make_cards(clean))
    expected = (tmp_path / "clean.html").read_text(encoding="ascii")
    # As many tags as a page without any of it, and nothing that opens a comment.
    assert re.findall(r"<[!/a-z]+", text) == re.findall(r"<[!/a-z]+", expected)
    (found,) = re.findall(r'id="report" data-chunk="64">([^<]*)</script>', text)
    assert not set("<>&\u2028\u2029") & set(found)
    assert json.loads(found) == report
    assert unpacked(blocks(text, "cards")[0][1]) == cards


@pytest.mark.parametrize("name", ["page.js", "page.css", "page.html"])
def test_assets_fit_into_a_page(name):
    text = _page._asset(name)
    assert text.isascii()
    if name != "page.html":
        assert "</" not in text
        assert "<!--" not in text
    else:
        assert text.count("$chunks") == 1
    # Markup out of text is never made, and nothing is asked of the network.
    for word in ("innerHTML", "outerHTML", "insertAdjacent", "document.write", "eval(",
                 "fetch(", "XMLHttp", "http://", "https://", "console."):  # fmt: skip
        allowed = ["http://www.w3.org/2000/svg"] if name == "page.js" else []
        for found in re.findall(rf"{re.escape(word)}[^\"'\s]*", text):
            assert found in allowed


def test_policy_allows_this_style_and_script_only(tmp_path):
    report, cards, _ = nasty_report()
    write(tmp_path / "report.html", report, cards)
    text = (tmp_path / "report.html").read_text()
    (policy,) = re.findall(
        r'http-equiv="Content-Security-Policy" content="(.*?)"', text
    )
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.S)
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.S)

    def digest(part):
        return base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()

    directives = dict(part.split(" ", 1) for part in policy.split("; "))
    assert directives == {
        "default-src": "'none'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "style-src": f"'sha256-{digest(style)}'",
        "script-src": f"'sha256-{digest(script)}'",
    }


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_undefined_figures_are_refused_not_written(tmp_path, bad):
    report = make_report(3)
    report["features"]["score"][1] = bad
    with pytest.raises(
        ValueError, match=r"^the report cannot be written: Out of range"
    ):
        write(tmp_path / "report.html", report)
    report = make_report(3)
    cards = list(make_cards(report))
    cards[2]["labels"][0]["rate"] = bad
    with pytest.raises(ValueError, match="The card of feature 2 cannot be written"):
        write(tmp_path / "report.html", report, cards)
    assert list(tmp_path.iterdir()) == []


def test_values_that_are_not_json_are_refused(tmp_path):
    report = make_report(3)
    report["features"]["score"][1] = np.float32(0.5)
    with pytest.raises(ValueError, match="float32 is not JSON serializable"):
        write(tmp_path / "report.html", report)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda r: r["features"]["score"].pop(), '5 features, but 4 values of "score"'),
        (lambda r: r["features"].pop("q"), "Columns without values: q"),
        (lambda r: r["columns"].pop(0), 'The first column of a report is "feature"'),
        (lambda r: r["features"].clear(), 'The first column of a report is "feature"'),
        (lambda r: r.update(grid=[3, 3]), "heatmap of 256 characters; the grid"),
        (lambda r: r.update(grid=None), "heatmap of 256 characters; the grid None"),
    ],
)
def test_reports_that_do_not_fit_together_are_refused(tmp_path, spoil, message):
    report = make_report(5)
    cards = list(make_cards(report))
    spoil(report)
    with pytest.raises(ValueError, match=message):
        write(tmp_path / "report.html", report, cards)


@pytest.mark.parametrize("n_cards", [0, 4, 6])
def test_every_feature_needs_its_card(tmp_path, n_cards):
    cards = list(make_cards(make_report(6)))[:n_cards]
    with pytest.raises(ValueError, match=f"5 features, but {n_cards} cards"):
        write(tmp_path / "report.html", make_report(5), cards)


@pytest.mark.parametrize("data", [b"", b"<svg onload=alert(1)>", b"GIF89a"])
def test_thumbnails_are_pictures(tmp_path, data):
    report = make_report(5)
    good = next(make_thumbnails(report))
    with pytest.raises(ValueError, match="Thumbnail 1 is neither JPEG nor PNG"):
        write(tmp_path / "report.html", report, thumbnails=[good, data])


def test_file_is_replaced_as_a_whole_or_not_at_all(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("before")

    def failing():
        yield from list(make_cards(make_report(70)))[:66]
        assert path.read_text() == "before"
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        write(path, make_report(70), failing())
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
    write(path, make_report(70))
    assert path.read_text().startswith("<!DOCTYPE html>")
    assert list(tmp_path.iterdir()) == [path]


def test_file_has_the_permissions_of_a_new_file_and_follows_links(tmp_path):
    (tmp_path / "plain").touch()
    (tmp_path / "link").symlink_to(tmp_path / "report.html")
    write(str(tmp_path / "link"), make_report(2))
    assert (tmp_path / "link").is_symlink()
    modes = {stat.S_IMODE((tmp_path / n).stat().st_mode) for n in ("plain", "link")}
    assert len(modes) == 1


def test_file_that_is_replaced_keeps_its_permissions(tmp_path):
    path = tmp_path / "report.html"
    path.touch(0o600)
    write(path, make_report(2))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_cards_are_not_collected_before_they_are_written(tmp_path):
    report = make_report(5 * CHUNK_SIZE)
    written = []

    def watched():
        for card in make_cards(report):
            (file,) = tmp_path.iterdir()
            written.append(os.stat(file).st_size)
            yield card

    write(tmp_path / "report.html", report, watched())
    # At the last chunk the chunks before the one being collected are in the file, but
    # for what its buffer holds.
    assert written[-1] > written[0] + 2 * (written[-1] - written[0]) / 5 > written[0]


# ------------------------------------------------------- the rule of the browser

TWO_TESTS = """
import pytest

@pytest.mark.browser
def test_in_a_browser(): pass

def test_without(): pass
"""


def run_two_tests(tmp_path, *options, **environment):
    """What pytest makes of one test with a browser and one without, PATH empty.

    Without the plugins of other packages, whose imports take longer than the tests.
    """
    (tmp_path / "conftest.py").write_text((ROOT / "tests/conftest.py").read_text())
    (tmp_path / "test_two.py").write_text(TWO_TESTS)
    ours = ("SKDICT_", "PYTEST_XDIST_")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "xdist",
         "test_two.py",
         "--rootdir", tmp_path, "-c", ROOT / "pyproject.toml", *options],
        cwd=tmp_path,
        env={
            **kept,
            "PATH": str(tmp_path),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip


@pytest.mark.parametrize("options", [(), ("-n2",)], ids=["one process", "two"])
def test_without_a_browser_its_tests_are_left_out_and_said_to_be(tmp_path, options):
    done = run_two_tests(tmp_path, *options)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout
    told = done.stdout.partition("= left out =")[2]
    assert "1 test was left out, because this machine has neither Chromium" in told
    assert "install chromium" in told


def test_without_a_browser_ci_fails(tmp_path):
    done = run_two_tests(tmp_path, SKDICT_REQUIRE_BROWSER="1")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "SKDICT_REQUIRE_BROWSER is set, but there is none of chrom" in done.stderr


def test_named_browser_must_be_there_and_is_taken(tmp_path):
    program = tmp_path / "mine"
    done = run_two_tests(tmp_path, SKDICT_CHROMIUM=str(program))
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert f"SKDICT_CHROMIUM={program} is not a program" in done.stderr
    program.touch(0o755)
    done = run_two_tests(tmp_path, SKDICT_CHROMIUM=str(program))
    assert f"browser: {program}" in done.stdout
    assert "2 passed" in done.stdout
    assert "left out" not in done.stdout


def test_ci_installs_a_browser_and_requires_it():
    script = (ROOT / ".ci" / "run").read_text()
    assert script.index("export SKDICT_REQUIRE_BROWSER=1") < script.index("make test")
    assert re.search(r"apt-get install .*\n?.* chromium", script)


# --------------------------------------------------------------------- in a browser

N = 140  # features of the report that most tests look at
N_IMAGES = 96
VIEWPORT = {"width": 1280, "height": 1600}
FLAGS = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser(browser_path):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def usual_page(browser):
    """A page that tests share, as a new one takes longer than most of them."""
    context = browser.new_context(viewport=VIEWPORT)
    yield context.new_page()
    context.close()


@pytest.fixture
def open_page(browser, usual_page):
    """Opens a file; at the end nothing may have been logged or asked of a network."""
    logged, contexts, opened = [], [], []
    listeners = {
        "console": lambda message: logged.append(message.text),
        "pageerror": lambda error: logged.append(str(error)),
        "request": lambda request: requested(request.url),
    }

    def requested(url):
        if not url.startswith(("file:", "data:", "about:")):
            logged.append(url)

    def new_page(prepare, options):
        contexts.append(browser.new_context(**{"viewport": VIEWPORT, **options}))
        page = contexts[-1].new_page()
        page.add_init_script(prepare or ";")
        return page

    def open_page(path, fragment="", *, prepare="", **options):
        page = new_page(prepare, options) if prepare or options else usual_page
        opened.append(page)
        page.goto("about:blank")
        page.set_default_timeout(10_000)
        for event, listener in listeners.items():
            page.on(event, listener)
        page.goto(f"{path.as_uri()}{fragment}")
        return page

    yield open_page
    for page in opened:
        for event, listener in listeners.items():
            page.remove_listener(event, listener)
    for context in contexts:
        context.close()
    assert logged == []


@pytest.fixture(scope="module")
def report():
    return make_report(N)


@pytest.fixture(scope="module")
def cards(report):
    return list(make_cards(report, N_IMAGES))


@pytest.fixture(scope="module")
def thumbnails(report):
    return list(make_thumbnails(report, N_IMAGES))


@pytest.fixture(scope="module")
def path(tmp_path_factory, report, cards, thumbnails):
    path = tmp_path_factory.mktemp("report") / "report.html"
    write(path, report, cards, thumbnails)
    return path


LISTED = """async () => {
  const list = document.querySelector("#list");
  const found = new Map();
  const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  for (let top = 0; ; top += list.clientHeight) {
    list.scrollTop = top;
    await frame();
    for (const row of list.querySelectorAll("tr[data-feature]")) {
      found.set(Number(row.ariaRowIndex ?? row.getAttribute("aria-rowindex")), Number(row.dataset.feature));
    }
    if (top >= list.scrollHeight - list.clientHeight) break;
  }
  const places = [...found.keys()].sort((a, b) => a - b);
  if (places.some((place, i) => place !== i + 2)) throw new Error(`gaps: ${places}`);
  return places.map((place) => found.get(place));
}"""  # noqa: E501


def listed(page):
    """The features in the order of the list, read off its rows while scrolling."""
    return page.evaluate(LISTED)


def header(page, key):
    return page.locator(f"thead th[data-key={key}]")


def row(page, feature):
    return page.locator(f"#list tr[data-feature='{feature}']")


def wait_until(page, expression, argument=None):
    """As `page.wait_for_function`, which the policy of the page may forbid."""
    for _ in range(500):
        if page.evaluate(expression, argument):
            return
        page.wait_for_timeout(20)
    raise AssertionError(f"Not so within ten seconds: {expression}")


def wait_for_card(page):
    page.wait_for_selector("#card[open] #card-body[aria-busy=false]")


def arrive(page, feature):
    """Wait for the card of a feature that is named by its number."""
    title = f"#card-title:text-is('icfl{feature}')"
    page.wait_for_selector(f"#card[open]:has({title}) #card-body[aria-busy=false]")
    assert page.evaluate("location.hash") == f"#feature-{feature}"


def open_card(page, feature):
    page.evaluate("feature => { location.hash = `#feature-${feature}` }", feature)
    wait_until(
        page,
        "([hash, name]) => location.hash === hash && "
        "document.querySelector('#card-title').textContent === name",
        [f"#feature-{feature}", page_name(page, feature)],
    )
    wait_for_card(page)


def page_name(page, feature):
    return page.evaluate(
        "feature => JSON.parse(report.textContent).features.feature[feature]", feature
    )


def card_title(page):
    return page.text_content("#card-title")


def natural(text):
    return [int(t) if t.isdigit() else t.casefold() for t in re.split(r"(\d+)", text)]


def in_order(values, kind, descending):
    """Python's order of the features; undefined values last, ties as they were."""
    defined = [i for i, value in enumerate(values) if value is not None]
    key = natural if kind == "text" else float
    defined.sort(key=lambda i: key(values[i]))
    if descending:
        ranks = {}
        for i in defined:
            ranks.setdefault(str(key(values[i])), len(ranks))
        defined.sort(key=lambda i: (-ranks[str(key(values[i]))], i))
    return defined + [i for i, value in enumerate(values) if value is None]


@pytest.mark.browser
def test_page_opens_with_overview_and_list(open_page, path, report):
    page = open_page(path)
    assert page.title() == report["title"] == page.text_content("h1")
    rows = page.locator("#overview tr").all_inner_texts()
    assert rows == [f"{r['name']}\t{r['value']}" for r in report["overview"]]
    assert page.locator("#notes li").all_text_contents() == report["notes"]
    assert page.text_content("#count") == f"{N} features"
    assert page.get_attribute("#list table", "aria-rowcount") == str(N + 1)
    assert page.locator("thead button").all_inner_texts() == [c[1] for c in COLUMNS]
    assert page.locator("#legend dd").all_text_contents() == [c[3] for c in COLUMNS]
    for name in ("skdict-list-ready", "skdict-card-ready"):
        n_marks = page.evaluate("n => performance.getEntriesByName(n).length", name)
        assert n_marks == (name == "skdict-list-ready")
    assert not page.locator("#card").is_visible()


@pytest.mark.browser
def test_list_holds_every_feature_but_draws_those_in_sight(open_page, path):
    page = open_page(path, viewport={"width": 1280, "height": 700})
    assert 15 < page.locator("#list tr[data-feature]").count() < 45
    assert listed(page) == list(range(N))
    assert 15 < page.locator("#list tr[data-feature]").count() < 45


@pytest.mark.browser
def test_list_shows_the_figures_as_they_are(open_page, path, report):
    report_cells = {
        0: None,
        10: ["icfl10", "0 %", "\u2013", "\u2013", "\u2013", "\u2013", "0", "\u2013"],
    }
    page = open_page(path)
    values = report["features"]
    report_cells[0] = [
        "icfl0",
        f"{100 * values['density'][0]:.1f} %",
        values["best_label"][0],
        f"{values['score'][0]:.3f}",
        f"{values['null'][0]:.3f}",
        f"{values['q'][0]:.3f}",
        f"{values['n_active'][0]:,}",
        "yes" if values["batch"][0] else "no",
    ]
    for feature, expected in report_cells.items():
        assert row(page, feature).locator("th, td").all_inner_texts() == expected
    shown = row(page, 0).locator("td").nth(2).get_attribute("title")
    assert float(shown) == pytest.approx(values["score"][0], rel=1e-5)


FORMATTED = [
    ("number", 0, "0"),
    ("number", 0.12349, "0.123"),
    ("number", -12.345, "\u221212.35"),
    ("number", 123.44, "123.4"),
    ("number", 12345.6, "12,346"),
    ("number", 4.2e-5, "4.2e\u22125"),
    ("number", 3e9, "3.0e+9"),
    ("fraction", 0.5, "50.0 %"),
    ("fraction", 0.0012, "0.12 %"),
    ("fraction", 1e-5, "0.001 %"),
    ("fraction", 1e-9, "1.0e\u22127 %"),
    ("fraction", 0, "0 %"),
    ("q", 0.04, "0.040"),
    ("q", 1e-6, "1.0e\u22126"),
    ("q", 1, "1.000"),
    ("count", 1234567, "1,234,567"),
    ("flag", True, "yes"),
    ("flag", False, "no"),
    ("text", "", ""),
    ("text", None, "\u2013"),
    ("number", None, "\u2013"),
]


@pytest.mark.browser
def test_figures_are_formatted_by_their_kind(open_page, tmp_path):
    report = make_report(1)
    report["columns"] = report["columns"][:1]
    for i, (kind, value, _) in enumerate(FORMATTED):
        column = {"key": f"c{i}", "label": f"c{i}", "kind": kind, "help": ""}
        report["columns"].append(column)
        report["features"][f"c{i}"] = [value]
    write(tmp_path / "report.html", report)
    page = open_page(tmp_path / "report.html")
    found = page.locator("#list tr[data-feature] td").all_text_contents()
    assert found == [text for _, _, text in FORMATTED]


@pytest.mark.browser
@pytest.mark.parametrize("key", [column[0] for column in COLUMNS])
def test_list_sorts_both_ways_with_undefined_values_last(open_page, path, report, key):
    page = open_page(path)
    kind = next(column[2] for column in COLUMNS if column[0] == key)
    values = report["features"][key]
    first = kind not in ("text", "q")
    for descending in (first, not first):
        header(page, key).get_by_role("button").click()
        assert listed(page) == in_order(values, kind, descending)
        direction = "descending" if descending else "ascending"
        assert page.locator("th[aria-sort]").count() == 1
        assert header(page, key).get_attribute("aria-sort") == direction


@pytest.mark.browser
def test_list_sorts_by_the_keyboard(open_page, path, report):
    page = open_page(path)
    page.focus("thead th[data-key=score] button")
    page.keyboard.press("Enter")
    assert header(page, "score").get_attribute("aria-sort") == "descending"
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    assert header(page, "null").get_attribute("aria-sort") == "descending"
    assert header(page, "score").get_attribute("aria-sort") is None
    assert listed(page) == in_order(report["features"]["null"], "number", True)


def matching(report, words=(), label=None, flagged=False):
    """The features that a search, a label and the tick box leave, in Python."""
    features = report["features"]
    found = []
    for i, name in enumerate(features["feature"]):
        texts = [name, features["best_label"][i] or ""]
        texts += ["batch flag"] if features["batch"][i] else []
        if (
            all(any(word in text.lower() for text in texts) for word in words)
            and label in (None, features["best_label"][i])
            and (features["batch"][i] or not flagged)
        ):
            found.append(i)
    return found


@pytest.mark.browser
@pytest.mark.parametrize(
    "search",
    [
        "icfl1",
        "ICFL17",
        "stroma",
        "Vessel 1",
        "flag",
        "batch flag gland",
        "nothing",
        " ",
    ],
)
def test_search_finds_names_labels_and_flags(open_page, path, report, search):
    page = open_page(path)
    page.get_by_role("searchbox", name="Search").fill(search)
    expected = matching(report, search.lower().split())
    assert listed(page) == expected
    count = f"{len(expected)} of {N} features" if search.strip() else f"{N} features"
    assert page.get_by_role("status").text_content() == count
    assert page.get_by_text("No feature matches.").count() == (not expected)
    page.get_by_role("searchbox").fill("")
    assert listed(page) == list(range(N))


@pytest.mark.browser
def test_label_and_flag_select_features_and_keep_the_order(open_page, path, report):
    page = open_page(path)
    header(page, "score").get_by_role("button").click()
    order = in_order(report["features"]["score"], "number", True)

    def kept(**choice):
        chosen = set(matching(report, **choice))
        return [i for i in order if i in chosen]

    select = page.get_by_role("combobox", name="Best label")
    n_gland = report["features"]["best_label"].count("gland")
    select.select_option(label=f"gland ({n_gland})")
    assert listed(page) == kept(label="gland")
    page.get_by_role("checkbox", name="flagged only").check()
    assert listed(page) == kept(label="gland", flagged=True)
    assert len(listed(page)) > 0
    page.get_by_role("searchbox").fill("icfl1")
    assert listed(page) == kept(words=["icfl1"], label="gland", flagged=True)
    select.select_option("")
    assert listed(page) == kept(words=["icfl1"], flagged=True)
    page.get_by_role("checkbox").uncheck()
    page.get_by_role("searchbox").fill("")
    assert listed(page) == order


@pytest.mark.browser
@pytest.mark.parametrize("way", ["row", "link", "enter", "address"])
def test_card_opens(open_page, path, report, way):
    page = open_page(path, "#feature-7" if way == "address" else "")
    if way == "row":
        row(page, 7).locator("td").nth(3).click()
    elif way == "link":
        row(page, 7).get_by_role("link").click()
    elif way == "enter":
        row(page, 7).get_by_role("link").focus()
        page.keyboard.press("Enter")
    wait_for_card(page)
    assert page.get_by_role("dialog", name="icfl7").is_visible()
    assert page.url.endswith("#feature-7")
    assert page.text_content("#position") == f"8 of {N}"
    assert len(page.evaluate("performance.getEntriesByName('skdict-card-ready')")) == 1


@pytest.mark.browser
@pytest.mark.parametrize("fragment", ["#feature-140", "#feature--1", "#feature-x", "#"])
def test_addresses_of_no_card_open_none(open_page, path, fragment):
    page = open_page(path, fragment)
    assert page.text_content("#count") == f"{N} features"
    assert not page.locator("#card").is_visible()


@pytest.mark.browser
@pytest.mark.parametrize("feature", [0, 63, 64, N - 1])
def test_card_shows_its_own_figures(open_page, path, report, cards, feature):
    page = open_page(path, f"#feature-{feature}")
    wait_for_card(page)
    card = cards[feature]
    assert card_title(page) == f"icfl{feature}"
    facts = page.locator("#facts dd").all_inner_texts()
    assert facts[1] == report["features"]["best_label"][feature]
    assert facts[2] == f"{report['features']['score'][feature]:.3f}"
    rows = page.locator(".rates tbody tr")
    for i, label in enumerate(card["labels"]):
        texts = rows.nth(i).locator("th, td").all_inner_texts()
        assert texts[0] == label["name"]
        assert float(texts[2]) == pytest.approx(label["score"], abs=5e-4)
        assert texts[3] == ("\u2013" if i == 6 else f"{label['null']:.3f}")
        title = rows.nth(i).locator("td").first.get_attribute("title")
        assert float(title) == pytest.approx(label["rate"], rel=1e-5)
    assert rows.count() == len(card["labels"])
    captions = page.locator(".pictures figcaption bdi").all_text_contents()
    items = [item for group in card["images"] for item in group["items"]]
    assert captions == [item["caption"] for item in items]
    values = page.locator(".pictures figcaption .figure").all_inner_texts()
    assert values == [f"{item['value']:.3f}" for item in items]
    links = page.locator(".neighbours a").all_text_contents()
    assert links == [f"icfl{other['feature']}" for other in card["neighbours"]]
    cosines = page.locator(".neighbours td.figure").all_inner_texts()
    assert cosines == [f"{other['cosine']:.3f}" for other in card["neighbours"]]


@pytest.mark.browser
def test_score_bars_and_null_ticks_share_one_scale(open_page, path, cards):
    page = open_page(path, "#feature-5")
    wait_for_card(page)
    labels = cards[5]["labels"]
    bars = page.eval_on_selector_all(
        ".rates .value", "bars => bars.map(bar => bar.width.baseVal.value)"
    )
    scale = bars[0] / labels[0]["score"]
    assert bars == pytest.approx([scale * label["score"] for label in labels], rel=1e-4)
    ticks = page.eval_on_selector_all(
        ".rates .null", "ticks => ticks.map(tick => tick.x1.baseVal.value)"
    )
    nulls = [label["null"] for label in labels if label["null"] is not None]
    assert ticks == pytest.approx([1 + scale * null for null in nulls], rel=1e-4)


@pytest.mark.browser
def test_histograms_are_drawn_to_scale(open_page, path, cards):
    page = open_page(path, "#feature-5")
    wait_for_card(page)
    figures = page.locator(".histogram")
    for i, histogram in enumerate(cards[5]["histograms"]):
        assert figures.nth(i).locator("figcaption").inner_text() == histogram["title"]
        assert figures.nth(i).locator(".xlabel").inner_text() == histogram["xlabel"]
        tallest = max(max(series["fractions"]) for series in histogram["series"])
        edges = np.array(histogram["edges"])
        for j, series in enumerate(histogram["series"]):
            d = figures.nth(i).locator("> svg .outline").nth(j).get_attribute("d")
            base = float(re.match(r"M[-\d.e]+,([-\d.e]+)", d)[1])
            steps = np.array(re.findall(r"V([-\d.e]+)H([-\d.e]+)", d), dtype=float)
            heights = (base - steps[:, 0]) / (172 - 20 - 20) * tallest
            assert_allclose(heights, series["fractions"], atol=1e-5)
            place = (edges[1:] - edges[0]) / (edges[-1] - edges[0])
            assert_allclose((steps[:, 1] - 38) / 274, place, atol=1e-5)
        names = figures.nth(i).locator(".series li").all_inner_texts()
        assert [name.strip() for name in names] == [
            series["name"] for series in histogram["series"]
        ]


# How far each text sticks out of its figure, in CSS pixels.
STICKS_OUT = """texts => texts.map(text => {
  const inner = text.getBoundingClientRect();
  const outer = text.closest("svg").getBoundingClientRect();
  return Math.max(
    outer.left - inner.left, outer.top - inner.top,
    inner.right - outer.right, inner.bottom - outer.bottom,
  );
})"""


@pytest.mark.browser
def test_no_text_of_a_figure_is_cut(open_page, path):
    page = open_page(path, "#feature-5")
    wait_for_card(page)
    beyond = page.eval_on_selector_all("#card .histogram svg text", STICKS_OUT)
    assert len(beyond) > 5
    assert max(beyond) <= 0.5


PIXELS = """canvas => [...canvas.getContext("2d")
  .getImageData(0, 0, canvas.width, canvas.height).data]"""


def pixels(canvas):
    width, height = canvas.evaluate("canvas => [canvas.width, canvas.height]")
    return np.reshape(canvas.evaluate(PIXELS), (height, width, 4))


@pytest.mark.browser
def test_heatmaps_are_those_of_the_card_in_viridis(open_page, path, cards):
    page = open_page(path, "#feature-3")
    wait_for_card(page)
    viridis = 255 * matplotlib.colormaps["viridis"](np.arange(256))[:, :3]
    items = [item for group in cards[3]["images"] for item in group["items"]]
    canvases = page.locator(".picture canvas")
    assert canvases.count() == len(items)
    for i in (0, 5, len(items) - 1):
        heatmap = heatmap_of(3, items[i]["image"], (12, 16))
        found = pixels(canvases.nth(i))
        assert found.shape == (12, 16, 4)
        np.testing.assert_array_equal(found[..., 3], np.where(heatmap > 0, 255, 0))
        drawn = heatmap > 0
        assert drawn.sum() > 5
        difference = np.abs(found[..., :3] - viridis[heatmap])[drawn]
        assert difference.max() < 6
    scale = page.locator(".scale")
    _, high = cards[3]["heatmap_range"]
    assert scale.inner_text().split() == ["0", f"{high:.3f}"]
    bar = pixels(scale.locator("canvas"))
    assert np.abs(bar[0, 1:, :3] - viridis[1:]).max() < 6


@pytest.mark.browser
def test_heatmaps_of_both_signs_have_zero_in_the_middle(open_page, tmp_path, report):
    report = {**report, "features": make_report(1)["features"], "grid": [1, 256]}
    (card,) = make_cards({**report, "grid": [12, 16]})
    card["heatmap_range"] = [-1.0, 3.0]
    item = card["images"][0]["items"][0]
    item["heatmap"] = base64.b64encode(bytes(range(256))).decode()
    card["images"] = [{"title": "Most active", "items": [item]}]
    write(tmp_path / "report.html", report, [card])
    page = open_page(tmp_path / "report.html", "#feature-0")
    wait_for_card(page)
    found = pixels(page.locator(".picture canvas"))[0]
    assert (found[:, 3] == 255).all()
    zero = round(255 / 4)
    assert np.ptp(found[zero, :3]) < 8  # grey
    assert found[zero, :3].min() > 230
    assert found[-1, 0] > found[-1, 2] + 100  # red, to the end of the scale
    assert found[0, 2] > found[0, 0] + 40  # blue, a third of the way only
    np.testing.assert_array_equal(pixels(page.locator(".scale canvas"))[0], found)


@pytest.mark.browser
@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_pictures_are_the_thumbnails_of_their_numbers(
    open_page, tmp_path, report, cards, format
):
    thumbnails = list(make_thumbnails(report, 70, format))
    write(tmp_path / "report.html", report, cards, thumbnails)
    page = open_page(tmp_path / "report.html", "#feature-4")
    wait_for_card(page)
    items = [item for group in cards[4]["images"] for item in group["items"]]
    frames = page.locator(".picture")
    seen = set()
    for i, item in enumerate(items):
        image = frames.nth(i).locator("img")
        if item["image"] >= 70:
            # A number that the page has no picture for.
            assert image.count() == 0
            assert frames.nth(i).inner_text() == f"image {item['image']}"
            seen.add("missing")
            continue
        head, _, data = image.get_attribute("src").partition(",")
        assert head == f"data:image/{format.lower()};base64"
        assert base64.b64decode(data) == thumbnails[item["image"]]
        image.evaluate("image => image.decode()")
        assert image.evaluate("image => image.naturalWidth") == 128
        assert image.get_attribute("alt") == item["caption"]
        seen.add("shown")
    assert seen == {"missing", "shown"}


@pytest.mark.browser
def test_overlay_is_as_opaque_as_the_slider_says_and_stays_so(open_page, path):
    page = open_page(path, "#feature-3")
    wait_for_card(page)

    def opacity():
        canvas = page.locator(".picture canvas").first
        return float(canvas.evaluate("canvas => getComputedStyle(canvas).opacity"))

    assert opacity() == pytest.approx(0.55)
    slider = page.get_by_role("slider", name="Heatmap")
    slider.focus()
    page.keyboard.press("Home")
    assert opacity() == 0
    page.keyboard.press("ArrowRight")  # moves the slider, not to the next card
    assert card_title(page) == "icfl3"
    assert opacity() == pytest.approx(0.01)
    open_card(page, 8)
    assert opacity() == pytest.approx(0.01)
    assert page.get_by_role("slider").input_value() == "1"


@pytest.mark.browser
def test_neighbours_open_and_back_returns(open_page, path, cards):
    page = open_page(path)
    row(page, 3).click()
    wait_for_card(page)
    other = cards[3]["neighbours"][0]["feature"]
    page.locator(".neighbours a").first.click()
    arrive(page, other)
    wait_for_card(page)
    assert card_title(page) == f"icfl{other}"
    page.go_back()
    arrive(page, 3)
    wait_for_card(page)
    assert card_title(page) == "icfl3"
    page.go_back()
    page.wait_for_selector("#card", state="hidden")
    wait_until(page, "!location.hash")
    page.go_forward()
    wait_for_card(page)
    assert card_title(page) == "icfl3"


@pytest.mark.browser
def test_previous_and_next_follow_the_list(open_page, path, report):
    page = open_page(path)
    header(page, "score").get_by_role("button").click()
    page.get_by_role("searchbox").fill("gland")
    order = listed(page)
    page.evaluate("document.querySelector('#list').scrollTop = 0")
    row(page, order[0]).click()
    wait_for_card(page)
    previous = page.get_by_role("button", name="Previous")
    after = page.get_by_role("button", name="Next")
    assert previous.is_disabled()
    after.click()
    arrive(page, order[1])
    assert page.text_content("#position") == f"2 of {len(order)}"
    page.keyboard.press("ArrowRight")
    arrive(page, order[2])
    page.keyboard.press("ArrowLeft")
    arrive(page, order[1])
    previous.click()
    arrive(page, order[0])
    page.keyboard.press("ArrowLeft")
    assert card_title(page) == f"icfl{order[0]}"
    open_card(page, order[-1])
    assert after.is_disabled()
    outside = next(i for i in range(N) if i not in order)
    open_card(page, outside)
    assert previous.is_disabled()
    assert after.is_disabled()
    assert page.text_content("#position") == "not in the list"


@pytest.mark.browser
def test_steps_through_the_list_leave_one_entry_in_the_history(open_page, path):
    page = open_page(path)
    row(page, 0).click()
    wait_for_card(page)
    for feature in (1, 2, 3):
        page.get_by_role("button", name="Next").click()
        arrive(page, feature)
    page.go_back()
    page.wait_for_selector("#card", state="hidden")
    assert page.evaluate("location.hash") == ""


@pytest.mark.browser
@pytest.mark.parametrize("way", ["escape", "button", "outside"])
def test_card_closes_and_the_focus_returns_to_its_row(open_page, path, way):
    page = open_page(path)
    row(page, 5).get_by_role("link").focus()
    page.keyboard.press("Enter")
    wait_for_card(page)
    if way == "escape":
        page.keyboard.press("Escape")
    elif way == "button":
        page.get_by_role("button", name="Close").click()
    else:
        page.mouse.click(5, 300)
    page.wait_for_selector("#card", state="hidden")
    wait_until(page, "document.activeElement.textContent === 'icfl5'")
    wait_until(page, "!location.hash")
    page.keyboard.press("Enter")
    wait_for_card(page)
    assert card_title(page) == "icfl5"


@pytest.mark.browser
def test_focus_goes_to_the_row_of_the_card_shown_last(open_page, path):
    page = open_page(path)
    row(page, 0).click()
    wait_for_card(page)
    open_card(page, N - 1)
    page.keyboard.press("Escape")
    wait_until(page, f"document.activeElement.textContent === 'icfl{N - 1}'")
    assert row(page, N - 1).is_visible()
    box, area = row(page, N - 1).bounding_box(), page.locator("#list").bounding_box()
    assert box["y"] + box["height"] <= area["y"] + area["height"] + 1


@pytest.mark.browser
def test_keys_move_through_the_list(open_page, path):
    page = open_page(path, viewport={"width": 1280, "height": 700})
    row(page, 0).get_by_role("link").focus()

    def press(key):
        page.keyboard.press(key)
        return page.evaluate(
            "Number(document.activeElement.closest('tr').dataset.feature)"
        )

    assert [press(k) for k in ("ArrowDown", "ArrowDown", "ArrowUp")] == [1, 2, 1]
    assert press("End") == N - 1
    assert press("ArrowDown") == N - 1
    assert 0 < press("PageUp") < N - 10
    assert press("Home") == 0
    assert 8 < press("PageDown") < 40
    area = page.locator("#list").bounding_box()
    box = page.locator("#list tr:focus-within").bounding_box()
    assert area["y"] < box["y"] < area["y"] + area["height"] - box["height"] + 1
    # One row is in the tab order, so that Tab leaves the list.
    assert page.locator("#list tbody a[tabindex='0']").count() == 1
    outline = page.locator("#list tr:focus-within").evaluate(
        "row => getComputedStyle(row).outlineStyle"
    )
    assert outline == "solid"
    name = page.locator("#list tr:focus-within th")
    assert "inset" in name.evaluate("name => getComputedStyle(name).boxShadow")


@pytest.mark.browser
def test_focus_is_not_lost_when_its_row_scrolls_away(open_page, path):
    page = open_page(path, viewport={"width": 1280, "height": 700})
    row(page, 0).get_by_role("link").focus()
    page.evaluate("document.querySelector('#list').scrollTop = 3000")
    wait_until(page, "document.activeElement.id !== ''")
    assert page.evaluate("document.activeElement.id") == "list"


@pytest.mark.browser
def test_page_is_told_to_assistive_technology(open_page, path):
    page = open_page(path)
    assert page.get_by_role("main").count() == 1
    assert page.get_by_role("heading", level=1).count() == 1
    assert page.get_by_role("search", name="Features").count() == 1
    assert page.get_by_role("region", name="List of features").count() == 1
    button = page.get_by_role("columnheader", name="Score").get_by_role("button")
    described = button.get_attribute("aria-describedby")
    assert page.text_content(f"#{described}") == button.get_attribute("title")
    assert page.get_by_role("rowheader", name="icfl3", exact=True).count() == 1
    row(page, 3).click()
    wait_for_card(page)
    dialog = page.get_by_role("dialog", name="icfl3")
    assert dialog.get_by_role("img", name="Activation where it fires").count() == 1
    assert dialog.get_by_role("heading", name="Nearest atoms").count() == 1
    assert page.evaluate("document.activeElement.id") == "card-title"


UNPACKED = """
  window.unpacked = 0;
  const Native = DecompressionStream;
  window.DecompressionStream = class extends Native {
    constructor(...given) { super(...given); window.unpacked += 1; }
  };
"""


@pytest.mark.browser
def test_chunks_are_unpacked_on_demand_and_a_few_are_kept(open_page, tmp_path):
    report = make_report(6 * CHUNK_SIZE)
    write(tmp_path / "report.html", report)
    page = open_page(tmp_path / "report.html", prepare=UNPACKED)
    counts = []
    # Twice the first chunk, a second one, the first again; then others until it is out.
    for chunk in (0, 0, 1, 0, 2, 3, 4, 0, 5, 1, 0):
        counts.append(page.evaluate("unpacked"))
        open_card(page, chunk * CHUNK_SIZE + len(counts))
    counts.append(page.evaluate("unpacked"))
    assert counts == [0, 1, 1, 2, 2, 3, 4, 5, 5, 6, 7, 7]


@pytest.mark.browser
def test_card_that_was_asked_for_last_is_shown(open_page, path):
    page = open_page(path, "#feature-1")
    wait_for_card(page)
    page.evaluate(
        "() => { for (const i of [70, 130, 2, 100]) location.hash = `#feature-${i}` }"
    )
    arrive(page, 100)
    wait_for_card(page)
    page.wait_for_timeout(100)
    assert card_title(page) == "icfl100"
    expected = list(make_cards(make_report(N), N_IMAGES))[100]["neighbours"]
    links = page.locator(".neighbours a").all_text_contents()
    assert links == [f"icfl{other['feature']}" for other in expected]


@pytest.mark.browser
def test_message_where_the_browser_cannot_unpack(open_page, path):
    page = open_page(path, "#feature-3", prepare="delete window.DecompressionStream")
    wait_for_card(page)
    assert "it has no DecompressionStream" in page.get_by_role("alert").inner_text()
    assert page.locator("#facts dd").count() == len(COLUMNS) - 1
    page.keyboard.press("Escape")
    assert listed(page) == list(range(N))


@pytest.mark.browser
def test_message_where_the_file_is_incomplete(open_page, path, tmp_path):
    text = path.read_text()
    cut = tmp_path / "cut.html"
    cut.write_text(text[: text.index('data-first="64"') + 3000])
    page = open_page(cut, "#feature-3")
    wait_for_card(page)
    assert page.get_by_role("alert").count() == 0
    open_card(page, 70)
    assert "the file may be incomplete" in page.get_by_role("alert").inner_text()
    open_card(page, 139)
    assert "the file may be incomplete" in page.get_by_role("alert").inner_text()


# ----------------------------------------------------------------- untrusted text


def as_browser(text):
    """Playwright hands half a surrogate pair over as a replacement character."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


@pytest.mark.browser
def test_text_of_others_is_shown_as_it_is_and_does_not_run(open_page, tmp_path):
    report, cards, alive = nasty_report()
    write(tmp_path / "report.html", report, cards)
    page = open_page(tmp_path / "report.html")
    expected = [as_browser(text) for text in NASTY]

    def texts(selector):
        found = page.eval_on_selector_all(selector, "n => n.map(n => n.textContent)")
        return [as_browser(text) for text in found]

    def nothing_ran():
        assert page.evaluate("document.title") == NASTY[0]
        assert page.locator("img[src=x], svg[onload]").count() == 0
        assert page.locator("script:not([type])").count() == 1

    assert page.text_content("h1") == NASTY[0]
    assert texts("#overview th") == expected
    assert texts("#overview td") == expected
    assert texts("#notes li") == expected
    assert texts("#list tbody a") == expected
    labels = texts("#list tr[data-feature] td:nth-of-type(2)")
    assert [label for i, label in enumerate(labels) if i in alive] == [
        expected[i] for i in alive
    ]
    assert texts("#legend dd") == [NASTY[0]] * len(COLUMNS)
    assert page.text_content("th[data-key=score] button").strip() == NASTY[1]
    described = page.eval_on_selector_all(
        "thead button",
        "b => b.map(b => document.getElementById(b.getAttribute('aria-describedby')))"
        ".map(help => help.previousSibling.textContent)",
    )
    assert described == [column["label"] for column in report["columns"]]
    nothing_ran()
    for feature in alive:
        open_card(page, feature)
        text = expected[feature]
        assert texts("#card-title") == [text]
        for selector in (
            ".rates .name",
            ".histogram figcaption",
            ".xlabel",
            ".pictures bdi",
            "#card .notes li",
        ):
            assert set(texts(selector)) == {text}, selector
        nothing_ran()


@pytest.mark.browser
def test_text_of_others_can_be_searched_and_selected(open_page, tmp_path):
    report, cards, _ = nasty_report()
    write(tmp_path / "report.html", report, cards)
    page = open_page(tmp_path / "report.html")
    for i, text in enumerate(NASTY):
        words = set(text.split())
        if not words or len(text) > 1000 or "\x00" in text or "\ud800" in text:
            continue  # cannot be typed
        page.get_by_role("searchbox").fill(text)
        assert i in listed(page)
    page.get_by_role("searchbox").fill("")
    select = page.get_by_role("combobox")
    values = {}
    for option in select.locator("option").all():
        values[option.text_content()] = option.get_attribute("value")
    assert len(values) == len(NASTY) + 1
    select.select_option(values["(empty) (1)"])
    assert listed(page) == [NASTY.index("")]
    select.select_option(values["__proto__ (1)"])
    assert listed(page) == [NASTY.index("__proto__")]
    assert max(len(text) for text in values) < 100


@pytest.mark.browser
def test_policy_is_in_force(browser, path):
    context = browser.new_context()
    page = context.new_page()
    page.goto(path.as_uri())
    page.evaluate(
        """() => {
          window.blocked = [];
          document.addEventListener("securitypolicyviolation", (event) =>
            window.blocked.push(event.effectiveDirective));
          document.body.append(Object.assign(document.createElement("script"),
            { textContent: "document.title = 'run'" }));
          document.body.append(Object.assign(document.createElement("img"),
            { src: "http://127.0.0.1:9/x.png" }));
          document.body.append(Object.assign(document.createElement("button"),
            { onclick: null }));
          document.body.lastChild.setAttribute("onclick", "document.title = 'run'");
          document.body.lastChild.click();
        }"""
    )
    wait_until(page, "window.blocked.length >= 3")
    blocked = set(page.evaluate("window.blocked"))
    assert blocked == {"script-src-elem", "script-src-attr", "img-src"}
    assert page.title() != "run"
    context.close()


# -------------------------------------------------------------- sizes and colours


@pytest.mark.browser
def test_8192_features_are_one_small_file_that_works(open_page, tmp_path):
    n = 8192
    report = make_report(n)
    few = list(make_cards(make_report(220)))
    cards = (few[i % 220] for i in range(n))
    n_bytes = write(tmp_path / "report.html", report, cards)
    assert n_bytes < 30e6
    page = open_page(tmp_path / "report.html")
    assert page.text_content("#count") == "8,192 features"
    assert page.locator("#list tr[data-feature]").count() < 150
    header(page, "score").get_by_role("button").click()
    order = in_order(report["features"]["score"], "number", True)
    row(page, order[0]).get_by_role("link").focus()
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement.textContent") == f"icfl{order[-1]}"
    page.get_by_role("searchbox").fill("icfl81")
    assert page.text_content("#count") == "103 of 8,192 features"
    open_card(page, n - 1)
    assert page.locator(".histogram").count() == 2


@pytest.mark.browser
@pytest.mark.parametrize("width", [320, 400, 700, 1400])
@pytest.mark.parametrize("texts", ["plain", "nasty"])
def test_page_is_never_wider_than_the_window(open_page, path, tmp_path, width, texts):
    if texts == "nasty":
        report, cards, _ = nasty_report()
        path = tmp_path / "report.html"
        write(path, report, cards)
    page = open_page(path, viewport={"width": width, "height": 800})
    excess = "e => e.scrollWidth - e.clientWidth"
    assert page.evaluate(f"({excess})(document.documentElement)") <= 0
    for feature in (3, 8, 10):
        open_card(page, feature)
        assert page.evaluate(f"({excess})(document.documentElement)") <= 0
        assert page.evaluate(f"({excess})(document.querySelector('#card'))") <= 0


def contrast(one, other):
    """WCAG's contrast of two colours "rgb(r, g, b)"."""

    def luminance(colour):
        rgb = np.array(re.findall(r"[\d.]+", colour)[:3], dtype=float) / 255
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_system_and_can_be_read(open_page, path, scheme):
    page = open_page(path, color_scheme=scheme)
    names = ["page", "surface", "hover", "text", "muted", "accent", "warn-page"]
    names += ["warn-text", *(f"series-{i}" for i in range(6))]
    colours = page.evaluate(
        """names => Object.fromEntries(names.map((name) => {
          document.body.style.color = `var(--${name})`;
          return [name, getComputedStyle(document.body).color];
        }))""",
        names,
    )
    grounds = [colours[name] for name in ("page", "surface", "hover")]
    assert (contrast(colours["page"], "rgb(0, 0, 0)") < 2) == (scheme == "dark")
    for ground in grounds:
        for name in ("text", "muted", "accent"):
            assert contrast(colours[name], ground) > 4.5, (name, ground)
    assert contrast(colours["warn-text"], colours["warn-page"]) > 4.5
    for i in range(6):
        assert contrast(colours[f"series-{i}"], colours["page"]) > 3


@pytest.mark.browser
def test_print_holds_the_head_of_the_list_or_the_card(open_page, tmp_path):
    write(tmp_path / "report.html", make_report(600))
    page = open_page(tmp_path / "report.html")
    page.evaluate(
        """() => addEventListener("beforeprint", () => {
          window.printed = {
            rows: document.querySelectorAll("#list tr[data-feature]").length,
            note: document.querySelector("#cut").textContent,
            card: document.querySelector("#card").matches("[open]:not(:modal)"),
          };
        })"""
    )
    page.pdf()
    assert page.evaluate("printed") == {
        "rows": 500,
        "note": "The first 500 of 600 features.",
        "card": False,
    }
    assert page.locator("#list tr[data-feature]").count() < 150
    row(page, 3).click()
    wait_for_card(page)
    page.pdf()
    assert page.evaluate("printed.card")
    page.wait_for_timeout(50)
    assert page.evaluate("document.querySelector('#card').matches(':modal')")
    assert page.url.endswith("#feature-3")
    page.keyboard.press("Escape")
    page.wait_for_selector("#card", state="hidden")


@pytest.mark.browser
@pytest.mark.parametrize("n_features", [0, 1])
def test_reports_of_almost_nothing(open_page, tmp_path, n_features):
    report = make_report(n_features)
    report.update(grid=None, image_shape=None, overview=[], notes=[])
    report["columns"] = report["columns"][:1]
    cards = list(make_cards({**report, "grid": [2, 2]}))
    for card in cards:
        card["heatmap_range"] = None
        for group in card["images"]:
            for item in group["items"]:
                item["heatmap"] = None
    write(tmp_path / "report.html", report, cards)
    page = open_page(tmp_path / "report.html", "#feature-0")
    assert page.text_content("#count") == ("1 feature" if n_features else "0 features")
    assert not page.get_by_role("checkbox").is_visible()
    assert page.get_by_role("combobox").count() == 0
    if n_features:
        wait_for_card(page)
        assert page.get_by_role("slider").count() == 0
        assert page.locator(".picture").count() == 12


@pytest.mark.browser
def test_card_of_a_feature_that_never_fires(open_page, path):
    page = open_page(path, "#feature-10")
    wait_for_card(page)
    text = page.inner_text("#card-body").strip()
    assert text == "This feature fires on none of the rows."


@pytest.mark.browser
def test_histograms_of_little_can_be_drawn(open_page, tmp_path):
    report = make_report(1)
    (card,) = make_cards(report)
    card["histograms"] = [
        {"title": "empty", "xlabel": "x", "edges": [0, 1],
         "series": [{"name": "a", "fractions": [0]}]},
        {"title": "no width", "xlabel": "x", "edges": [2, 2],
         "series": [{"name": "a", "fractions": [1]}]},
        {"title": "none", "xlabel": "x", "edges": [-1e-9, 1e9], "series": []},
    ]  # fmt: skip
    card["labels"] = [
        {"name": "a", "rate": 0, "score": 0, "null": 0, "q": None},
        {"name": "b", "rate": 0, "score": -0.5, "null": 0.1, "q": 1},
    ]
    write(tmp_path / "report.html", report, [card])
    page = open_page(tmp_path / "report.html", "#feature-0")
    wait_for_card(page)
    assert page.locator(".histogram").count() == 3
    markup = page.eval_on_selector_all("#card svg", "n => n.map(n => n.outerHTML)")
    assert not re.search("NaN|Infinity", "".join(markup))
    widths = page.eval_on_selector_all(
        ".rates .value", "bars => bars.map(bar => bar.width.baseVal.value)"
    )
    assert widths == pytest.approx([0, 198 * 0.5 / 0.6], abs=0.1)


# ---------------------------------------------------------------- from an estimator


@pytest.mark.browser
def test_report_of_a_fitted_dictionary(open_page, tmp_path):
    digits = load_digits()
    images, y = digits.images[:200] / 16, digits.target[:200]
    tokens = images.reshape(200, 2, 4, 2, 4).swapaxes(2, 3).reshape(800, 16)
    icfl = ICFL(n_components=24, k=3, max_iter=2, random_state=0).fit(tokens)
    report = FeatureReport(
        icfl,
        tokens,
        y.astype(str),
        images=(255 * images).astype(np.uint8),
        metadata={"writer": np.arange(200) % 3},
        n_permutations=5,
        verbose=False,
    )
    page = open_page(report.to_html(tmp_path / "report.html", title="Digits <&>"))
    frame = report.to_frame()
    assert page.title() == "Digits <&>"
    assert page.text_content("#count") == "24 features"
    header(page, "density").get_by_role("button").click()
    density = np.asarray(frame["density"]).tolist()
    order = listed(page)
    assert sorted(order) == list(range(24))
    assert_allclose([density[i] for i in order], sorted(density)[::-1], atol=1e-4)
    row(page, order[0]).click()
    wait_for_card(page)
    assert card_title(page) == frame["feature"][order[0]]
    rates = page.locator(".rates tbody tr").first.locator("th, td").all_inner_texts()
    assert rates[0] in set(y.astype(str))
    active = icfl.transform(tokens)[:, [order[0]]].toarray()[:, 0] != 0
    rate = active[np.repeat(y == int(rates[0]), 4)].mean()
    assert float(rates[1].removesuffix(" %")) == pytest.approx(100 * rate, abs=0.06)
    assert page.locator(".picture img").count() > 0
    assert page.locator(".picture canvas").count() > 0
    assert page.locator(".histogram").count() > 0
    # The nearest atom, by numpy.
    cosines = icfl.components_ @ icfl.components_[order[0]]
    cosines[order[0]] = -np.inf
    link = page.locator(".neighbours a").first
    assert link.text_content() == frame["feature"][int(cosines.argmax())]
    link.click()
    arrive(page, cosines.argmax())
