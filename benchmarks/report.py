"""How large the page of a FeatureReport is, how long it takes to build and to open it.

The page is of 324 images of solar cells (`load_elpv_tokens`), all 18 x 18 tokens of
each, 104,976 rows of 80 features, with labels, controls, and materials as batches. The
pipeline is `ControlPCAWhitener`, `Normalizer` and `ICFL` with 640 and with 8192 atoms,
trained for one epoch: longer training does not change the size of the page. With
``--quick`` it is the one image of `load_tissue_tokens`.

Building covers the codes, the list with 100 permutations of labels and of materials,
and the page. Opening needs the packages of the extra `bench`, and playwright with a
Chromium on the path. Two times are taken by the page's own marks, in a new window each
time: from the start of loading until the list can be used, and from the request for a
card until it is open.

Run: python benchmarks/report.py
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from _timing import Report, arguments
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer

from skdict import ICFL, ControlPCAWhitener
from skdict.datasets import load_elpv_tokens, load_tissue_tokens
from skdict.report import FeatureReport

_SWITCHES = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
_CARDS = 5  # opened in each window


def load(quick: bool):
    """Tokens, labels, images, controls and batches."""
    if quick:
        data = load_tissue_tokens()
        batch = data.columns // 8 % 2
        y = data.target_names[data.target]
        return data.data, y, data.image[None], y == "stroma", batch
    data = load_elpv_tokens(None, n_images=324, return_images=True)
    y = data.target_names[data.target]
    return data.data, y, data.images, data.control, data.batch


# The page's policy allows no script but its own, so waiting is written out here.
_OPEN = """async (feature) => {
  performance.clearMarks("skdict-card-ready");
  const asked = performance.now();
  location.hash = `#feature-${feature}`;
  for (;;) {
    const [mark] = performance.getEntriesByName("skdict-card-ready");
    if (mark) return mark.startTime - asked;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}"""


def seconds_to_open(path: Path, n_features: int, repeats: int):
    """Medians: until the list can be used; from asking for a card until it is open."""
    from playwright.sync_api import sync_playwright

    until_list, until_card = [], []
    rng = np.random.default_rng(0)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=_SWITCHES
        )
        for _ in range(repeats):
            page = browser.new_page()
            page.goto(path.as_uri())
            ready = "performance.getEntriesByName('skdict-list-ready')[0].startTime"
            until_list.append(page.evaluate(ready) / 1000)
            for feature in rng.choice(n_features, _CARDS, replace=False).tolist():
                until_card.append(page.evaluate(_OPEN, feature) / 1000)
            page.close()
        browser.close()
    return statistics.median(until_list), statistics.median(until_card)


def main() -> None:
    args = arguments(__doc__)
    tokens, labels, images, control, batch = load(args.quick)
    for n_features in (64, 128) if args.quick else (640, 8192):
        what = (
            f"report of {n_features} features, {len(tokens)} rows, {len(images)} images"
        )
        report = Report(what, args)
        pipe = make_pipeline(
            ControlPCAWhitener(),
            Normalizer(),
            ICFL(n_features, 8, max_iter=1, random_state=0, device="cpu"),
        )
        pipe.fit(tokens, controlpcawhitener__control=control)
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            features = FeatureReport(
                pipe,
                tokens,
                labels,
                images=images,
                metadata={"batch": batch},
                control=control,
                verbose=False,
            )
            path = features.to_html(Path(folder) / "report.html")
            seconds = time.perf_counter() - start
            size = path.stat().st_size / 1e6
            report.target("size of the page", size, at_most=30, unit=" MB")
            report.target("seconds to build", seconds, unit=" s")
            try:
                until_list, until_card = seconds_to_open(path, n_features, args.repeats)
            except ImportError as error:
                report.not_measured("seconds to open", str(error))
                continue
            report.target("until the list can be used", until_list, unit=" s")
            report.target("until a card is open", until_card, unit=" s")


if __name__ == "__main__":
    main()
