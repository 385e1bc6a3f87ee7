"""How long every evaluation of skdict.metrics takes on codes of a real size.

Data: 100,000 x 8192 codes in CSR, 100 non-zeros a row (`make_codes` of selectivity.py);
1000 labels and 10 continuous targets drawn at random; 100 permutations if there is a
null. The dictionaries have 8192 x 1024 atoms; the second is the first with so much
noise that about half of the atoms are found again. The dense rows are 100,000 x 256,
and heatmaps have one token for each of them. `stability_report`, which matches the two
dictionaries and six pairs of random ones, gets 4096 atoms: with 8192 it alone took 142
s.

Each evaluation runs once in one process, whatever `--repeats` says. Its memory is the
gain of the process's resident memory (on Linux; elsewhere it is left out). No other
library has these evaluations, so the figures have no comparison and no target.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from _timing import Report, arguments, seconds_of
from selectivity import make_codes

from skdict import images, metrics

_GRID = (10, 10)  # of the tokens of an image
# What takes no codes, rows or dictionaries.
_NOT_EVALUATIONS = {"make_selectivity_scorer", "make_linear_probe"}


def main() -> None:
    args = arguments(
        __doc__, only={"nargs": "+", "metavar": "NAME", "help": "of functions"}
    )
    sizes = {
        "n": 100_000,
        "m": 8192,
        "per_row": 100,
        "d": 256,
        "d_atoms": 1024,
        "m_matched": 4096,
        "n_labels": 1000,
        "n_permutations": 100,
    }
    if args.quick:
        small = (1000, 256, 10, 16, 32, 64, 20, 5)
        sizes = dict(zip(sizes, small, strict=True))
    report = Report("Run time of the evaluations", args)
    to_time = cases(**sizes)
    timed = {name for name, *_ in to_time}
    for name in sorted({*metrics.__all__, *images.__all__} - timed - _NOT_EVALUATIONS):
        report.not_measured(name, "no case in this file yet")
    for name, detail, evaluate in to_time:
        if args.only and name not in args.only:
            continue
        before = _restart_peak()
        seconds = seconds_of(evaluate)
        memory = "" if before is None else f", {(_peak() - before) / 1e9:.2f} GB"
        report.target(f"{name}: {detail}", seconds, unit=f" s{memory}")


def cases(
    *,
    n: int,
    m: int,
    per_row: int,
    d: int,
    d_atoms: int,
    m_matched: int,
    n_labels: int,
    n_permutations: int,
) -> list[tuple[str, str, Callable[[], object]]]:
    """Function, what it is given, and the call, for all evaluations."""
    rng = np.random.default_rng(0)
    codes = make_codes(n, m, per_row, rng)
    other_codes = make_codes(n, m, per_row, rng)
    y = rng.integers(n_labels, size=n)
    batch = rng.integers(10, size=n)
    few_labels = rng.integers(5, size=n)
    targets = rng.normal(size=(n, 10))
    pairs = metrics.association_report(codes, targets)
    X = rng.normal(size=(n, d)).astype(np.float32)
    X_hat = X + 0.3 * rng.normal(size=X.shape).astype(np.float32)
    X_refit = X + 0.2 * rng.normal(size=X.shape).astype(np.float32)
    projection = rng.normal(size=(d // 4, d)).astype(np.float32)
    atoms = rng.normal(size=(m, d_atoms)).astype(np.float32)
    noise = rng.uniform(0, 2, size=(m, 1)) * rng.normal(size=atoms.shape)
    others = rng.permutation((atoms + noise).astype(np.float32))

    cosines = metrics.direction_cosines(X, projection[0])
    heatmaps = cosines.reshape(-1, *_GRID)
    pixels = (len(heatmaps), *(8 * side for side in _GRID))
    images = rng.random(size=(*pixels, 3), dtype=np.float32)
    mask = rng.integers(4, size=pixels)

    # What is given to many: its description, and the arguments.
    permuted = f"{n_permutations} permutations"
    to_labels = f"{n} x {m} codes, {n_labels} labels"
    to_targets = f"{n} x {m} codes, {targets.shape[1]} targets"
    dense = f"{n} x {d}"
    maps = f"{len(heatmaps)} heatmaps of {_GRID[0]} x {_GRID[1]}"
    null = {"n_permutations": n_permutations, "random_state": 0}

    def case(name, detail, *given, **options):
        function = getattr(metrics, name)
        return name, detail, partial(function, *given, **options)

    return [
        case("feature_density", f"{n} x {m} codes", codes),
        case("dead_feature_fraction", f"{n} x {m} codes", codes),
        case("selectivity_scores", to_labels, codes, y),
        case("selectivity_report", f"{to_labels}, {permuted}", codes, y, **null),
        case("selectivity_counts", f"{to_labels}, {permuted}", codes, y, **null),
        case("selectivity_curve", f"{to_labels}, {permuted}", codes, y, **null),
        case("selectivity_tests", to_labels, codes, y),
        case(
            "selectivity_tests",
            f"{n} x {m} codes, {len(set(few_labels))} labels, 10 groups",
            codes,
            few_labels,
            batch=batch,
        ),
        case("auroc_scores", to_labels, codes, y),
        case(
            "describe_features",
            f"{to_labels}, 1 confound",
            codes,
            y,
            confounds={"batch": batch},
        ),
        *(
            entry
            for method in ("pearson", "spearman")
            for entry in (
                case(
                    "association_scores",
                    f"{method}, {to_targets}",
                    codes,
                    targets,
                    correlation=method,
                ),
                case(
                    "association_report",
                    f"{method}, {to_targets}, {permuted}",
                    codes,
                    targets,
                    correlation=method,
                    **null,
                ),
            )
        ),
        case(
            "rescore_associations",
            f"{to_targets}, {permuted}",
            pairs,
            codes,
            targets,
            **null,
        ),
        case(
            "eta_squared",
            f"{to_labels} and 10 batches, {permuted}",
            codes,
            {"label": y, "batch": batch},
            **null,
        ),
        case("match_codes", f"{n} x {m} codes twice", codes, other_codes),
        case("binarize_at_quantiles", dense, X, d / 8),
        case("reconstruction_cosine", dense, X, X_hat),
        case("explained_variance", dense, X, X_hat),
        case("decompose_error", f"{dense}, with a refit", X, X_hat, X_refit=X_refit),
        case("split_by_projection", f"{dense} to {d // 4}", X, projection),
        case(
            "subspace_probes",
            f"{dense} to {d // 4}, {len(set(few_labels))} labels",
            X,
            few_labels,
            projection,
            random_state=0,
        ),
        case("direction_cosines", f"{dense}, {len(projection)}", X, projection),
        case("token_heatmaps", maps, cosines, _GRID),
        case(
            "heatmap_channel_correlations",
            f"{maps}, 3 channels, {pixels[1]} x {pixels[2]} pixels",
            heatmaps,
            images,
        ),
        case(
            "heatmap_by_region",
            f"{maps}, 4 regions, {n_permutations} shifts",
            heatmaps,
            mask,
            n_shifts=n_permutations,
            random_state=0,
        ),
        case("morans_i", f"{maps}, {permuted}", heatmaps, **null),
        case("rank_images", maps, heatmaps),
        case("strongest_patches", maps, heatmaps),
        case("mutual_coherence", f"{m} x {d_atoms} atoms", atoms),
        case("match_dictionaries", f"{m} x {d_atoms} atoms twice", atoms, others),
        case(
            "stability_report",
            f"{m_matched} x {d_atoms} atoms twice, 3 pairs of each null",
            [atoms[:m_matched], others[:m_matched]],
            random_state=0,
        ),
        case("order_atoms", f"{m} x {d_atoms} atoms", atoms),
    ]


def _restart_peak() -> int | None:
    """Let the kernel count the peak anew from here; resident bytes now."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return _peak()
    except OSError:
        return None


def _peak() -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"VmHWM:\s*(\d+) kB", status)[1])


if __name__ == "__main__":
    main()
