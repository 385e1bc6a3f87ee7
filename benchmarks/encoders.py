"""The same atoms under several encoders: what each costs and gains.

Run ``python benchmarks/encoders.py`` (about five minutes on 2 cores). The data are
tissue tokens, whitened on the reference class and only centred; the left half trains
and the right half tests; 640 atoms, k = 8. For the atoms of ICFL and for the decoder of
TopKSAE, the script prints for each encoder, as mean and standard deviation over seeds:
the held-out explained variance; the mean over classes of the best feature's selectivity
beside the 95 % quantile of its null (label maps shifted over the grid); and the
balanced accuracy of a linear probe on the codes. The time of encoding is relative to
ICFL's default encoder (median over rounds in which all encoders take turns).

The last lines train ICFL with the slower encoders, too.
"""

from __future__ import annotations

import numpy as np
from _timing import arguments, by_turns, machine, ratio
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

from skdict import ICFL, ControlPCAWhitener, TopKSAE
from skdict.datasets import load_tissue_tokens
from skdict.metrics import make_linear_probe, selectivity_report

ENCODERS = {
    "batched, 5 atoms a step (default)": {},
    "batched, positive coefficients": {"positive_code": True},
    "batched, refit": {"refit": True},
    "matching pursuit": {"atoms_per_step": 1},
    "matching pursuit, refit": {"atoms_per_step": 1, "refit": True},
    "OMP": {"atoms_per_step": 1, "selection": "absolute", "refit": "every_step"},
    "OMP, positive selection": {"atoms_per_step": 1, "refit": "every_step"},
}


def main() -> None:
    args = arguments(__doc__, seeds={"type": int, "default": 3})
    print("\n".join(machine()))
    tissue = load_tissue_tokens()
    left = tissue.columns < 32
    y = tissue.target_names[tissue.target]
    for name, steps in {
        "whitened": [ControlPCAWhitener(control_label="stroma"), Normalizer()],
        "centred": [StandardScaler(with_std=False), Normalizer()],
    }.items():
        preprocessing = make_pipeline(*steps).fit(tissue.data[left], y[left])
        X = preprocessing.transform(tissue.data)
        print(f"\n# Tissue, {name}", flush=True)
        compare(X[left], X[~left], y[left], y[~left], args)


def compare(train, test, y_train, y_test, args) -> None:
    M, k = (64, 4) if args.quick else (640, 8)
    seeds = range(1 if args.quick else args.seeds)
    fitted: dict[str, list] = {}
    for seed in seeds:
        icfl = ICFL(M, k, random_state=seed).fit(train)
        sae = TopKSAE(M, k, random_state=seed).fit(train)
        decoder = ICFL(init=sae.components_, k=k, max_iter=0).fit(train)
        for name, encoder in ENCODERS.items():
            fitted.setdefault(f"ICFL: {name}", []).append(icfl.with_encoder(**encoder))
        fitted.setdefault("TopKSAE: its own", []).append(sae)
        for name in next(iter(ENCODERS)), "OMP":
            fitted.setdefault(f"TopKSAE's decoder: {name}", []).append(
                decoder.with_encoder(**ENCODERS[name])
            )
        for name in "batched, positive coefficients", "matching pursuit", "OMP":
            model = ICFL(M, k, random_state=seed).set_params(**ENCODERS[name])
            fitted.setdefault(f"ICFL trained with: {name}", []).append(model.fit(train))
    rows = np.tile(test, (1 if args.quick else 8, 1))
    seconds = by_turns(
        {
            name: lambda m=models[0]: m.transform(rows)
            for name, models in fitted.items()
        },
        args.repeats,
    )
    default = next(iter(fitted))
    print(f"{'':52}{'explained':16}{'selectivity':16}{'null':8}{'probe':16}time")
    for name, models in fitted.items():
        figures = [measure(m, train, test, y_train, y_test, args) for m in models]
        cells = [
            f"{np.mean(column):.3f} ± {np.std(column):.3f}   "
            for column in zip(*figures, strict=True)
        ]
        cells[2] = cells[2][:5] + "   "
        time = ratio(seconds[name], seconds[default]).median
        print(f"{name:52} {''.join(cells)}{time:.2f}x", flush=True)


def measure(model, train, test, y_train, y_test, args) -> tuple[float, ...]:
    codes = model.transform(test)
    report = selectivity_report(
        codes,
        y_test,
        n_permutations=9 if args.quick else 99,
        grid_shape=(64, 32),
        random_state=0,
    )
    probe = make_linear_probe().fit(model.transform(train), y_train)
    return (
        model.score(test),
        report["score"].mean(),
        report["null_q95"].mean(),
        balanced_accuracy_score(y_test, probe.predict(codes)),
    )


if __name__ == "__main__":
    main()
