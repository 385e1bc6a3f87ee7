"""What dictionaries find of features that are known: the generator of SynthSAEBench.

Rows come from SAELens' synthetic model with the published constants (arXiv:2602.14687),
scaled down by eight: 2,048 features in 96 dimensions, a hierarchy of 16 trees, features
that exclude each other and correlate, an offset. Every dictionary has 512 latents, so
that it cannot have all features, and learns from the same rows in the same number of
samples. Those of SAELens have the published settings, whose learning rate of 3e-4 is
meant for 200 million samples, and once more our rate, 3e-3. The penalties of its
JumpReLU and standard autoencoders are led to k active latents; "at k" is the JumpReLU
autoencoder once more with all thresholds times the factor that leaves k. A regenerated
model has the distribution of the published one, not its bits.

Columns, on rows not learned from: F1, the mean over all latents of how well a latent's
firing agrees with that of the feature whose direction is nearest; MCC, the mean cosine
of latents and features matched one to one; uniqueness, the fraction of latents whose
nearest features differ; explained variance; mean non-zeros (L0); fraction of dead
latents; seconds of the training. Mean over the seeds, and half of the range. With
``--jobs``, several train at once and the seconds are those of a busy machine.

The rows come from SAELens, which ``make bench`` does not install: ``pip install
sae-lens``. ``--only`` chooses dictionaries by name. ``--size published`` is the
generator as published, with 4,096 latents and k = 25; on a CPU it would take days, so
it goes with ``--device cuda``. The model is drawn once for each seed, and all
dictionaries learn from its rows; the published figures are from 200 million.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("SCIPY_ARRAY_API", "1")  # read at scipy's first import

import _peers
import numpy as np
import scipy.sparse as sp
import torch
from _cases import FAMILY
from scipy.optimize import linear_sum_assignment
from sklearn import config_context
from torch import Tensor

from skdict import ICFL, KSVD

OURS: dict[str, Callable] = {
    "ICFL": ICFL,
    "ICFL, distance 0": lambda *a, **p: ICFL(*a, span_distance=0, **p),
    "ICFL, refit": lambda *a, **p: ICFL(*a, refit=True, **p),
    "ICFL, positive": lambda *a, **p: ICFL(*a, positive_code=True, **p),
    "ICFL, positive, one step": lambda *a, **p: ICFL(
        *a, positive_code=True, atoms_per_step=10, **p
    ),
    "ICFL, factor 2": lambda *a, **p: ICFL(*a, training_factor=2, **p),
    "ICFL, factor 2, positive": lambda *a, **p: ICFL(
        *a, training_factor=2, positive_code=True, **p
    ),
    "ICFL, factor 2, pos., refit": lambda *a, **p: ICFL(
        *a, training_factor=2, positive_code=True, refit=True, **p
    ),
    "ICFL, factor 3, positive": lambda *a, **p: ICFL(
        *a, training_factor=3, positive_code=True, **p
    ),
    "ICFL, factor 0.5, positive": lambda *a, **p: ICFL(
        *a, training_factor=0.5, positive_code=True, **p
    ),
    "ICFL, resets at 0.7": lambda *a, **p: ICFL(*a, reset_similarity=0.7, **p),
    "ICFL, one atom a step": lambda *a, **p: ICFL(*a, atoms_per_step=1, **p),
    **{name: kind for name, kind in FAMILY.items() if name != "ICFL"},
    **{
        f"{name}, factor {factor}": partial(FAMILY[name], training_factor=factor)
        for name in ("TopKSAE", "BatchTopKSAE", "MatryoshkaSAE", "GatedSAE")
        for factor in (1.5, 2)
    },
    **{
        f"{name}, factor {factor}": partial(FAMILY[name], training_factor=factor)
        for name in ("JumpReLUSAE", "SAE")
        for factor in (1, 2)
    },
    "SAE, from samples": partial(FAMILY["SAE"], init="samples"),
    "KSVD": lambda *a, **p: KSVD(*a, **p | {"batch_size": "auto"}),  # all rows
}


class Size(NamedTuple):
    """Size of the planted model, and of the dictionaries that learn from it."""

    features: int
    dimensions: int
    trees: int
    latents: int
    k: int


SIZES = {
    "scaled": Size(2048, 96, 16, 512, 10),
    "published": Size(16384, 768, 128, 4096, 25),
}


_ROWS = 2000  # drawn at once


class Data(NamedTuple):
    """Rows of a planted model, and what they are made of."""

    train: Tensor
    test: np.ndarray
    fired: sp.csc_matrix  # features of the test rows, 0 or 1
    features: np.ndarray  # their directions, unit rows


def make_data(size: Size, n_train: int, n_test: int, seed: int, device: str) -> Data:
    """Draw rows from the planted model."""
    try:
        _peers.sae_lens()
    except _peers.MissingPeerError as error:
        raise SystemExit(f"The rows come from SAELens: {error}") from error
    from sae_lens.synthetic.firing_magnitudes import (
        FoldedNormalMagnitudeConfig,
        LinearMagnitudeConfig,
    )
    from sae_lens.synthetic.firing_probabilities import ZipfianFiringProbabilityConfig
    from sae_lens.synthetic.hierarchy import HierarchyConfig
    from sae_lens.synthetic.synthetic_model import (
        LowRankCorrelationConfig,
        OrthogonalizationConfig,
        SyntheticModel,
        SyntheticModelConfig,
    )

    model = SyntheticModel(
        SyntheticModelConfig(
            num_features=size.features,
            hidden_dim=size.dimensions,
            firing_probability=ZipfianFiringProbabilityConfig(0.5, 0.4, 5e-4),
            hierarchy=HierarchyConfig(
                total_root_nodes=size.trees,
                branching_factor=4,
                max_depth=3,
                mutually_exclusive_portion=1.0,
                compensate_probabilities=True,
                scale_children_by_parent=True,
            ),
            mean_firing_magnitudes=LinearMagnitudeConfig(5, 4),
            std_firing_magnitudes=FoldedNormalMagnitudeConfig(0.5, 0.5),
            correlation=LowRankCorrelationConfig(rank=25, correlation_scale=0.1),
            orthogonalization=OrthogonalizationConfig(num_steps=100, lr=3e-4),
            bias=0.5,
            seed=42 + seed,
        ),
        device=device,
    )
    torch.manual_seed(seed)
    rows, fired = [], []
    with torch.no_grad():
        train = torch.cat([model.sample(_ROWS).cpu() for _ in range(n_train // _ROWS)])
        for _ in range(n_test // _ROWS):
            x, features = model.sample_with_features(_ROWS)
            rows.append(x.cpu().numpy())
            fired.append(sp.csr_matrix(features.cpu().numpy() > 0))
    directions = model.feature_dict.feature_vectors.detach().cpu().numpy()
    return Data(
        train,
        np.concatenate(rows),
        sp.csc_matrix(sp.vstack(fired)),
        directions / np.linalg.norm(directions, axis=1, keepdims=True),
    )


def measure(
    codes: sp.csr_matrix, reconstruction: np.ndarray, atoms: np.ndarray, data: Data
) -> dict[str, float]:
    """Compare what was found with what was planted."""
    directions = atoms / np.linalg.norm(atoms, axis=1, keepdims=True)
    cosines = np.abs(directions @ data.features.T)
    nearest = cosines.argmax(axis=1)
    found = sp.csc_matrix(codes != 0).astype(np.int64)
    planted = data.fired[:, nearest].astype(np.int64)
    both = np.asarray(found.multiply(planted).sum(axis=0)).ravel()
    total = np.asarray(found.sum(axis=0) + planted.sum(axis=0)).ravel()
    error = ((data.test - reconstruction) ** 2).sum()
    return {
        "F1": float(np.mean(2 * both / np.maximum(total, 1))),
        "MCC": float(cosines[linear_sum_assignment(-cosines)].mean()),
        "unique": len(np.unique(nearest)) / len(nearest),
        "EV": 1 - error / ((data.test - data.test.mean(axis=0)) ** 2).sum(),
        "L0": codes.nnz / codes.shape[0],
        "dead": float((np.diff(found.indptr) == 0).mean()),
    }


def run_ours(
    make: Callable,
    data: Data,
    m: int,
    k: int,
    samples: int,
    seed: int,
    batch_size: int | str,
) -> dict[str, float]:
    epochs = samples // len(data.train)
    model = make(m, k, max_iter=epochs, batch_size=batch_size, random_state=seed)
    model.set_params(device=data.train.device.type)
    start = time.perf_counter()
    # The rows stay where they are, and so do the atoms.
    with config_context(array_api_dispatch=True):
        model.fit(data.train)
    seconds = time.perf_counter() - start
    codes = model.transform(data.test)
    atoms = model.components_.cpu().numpy()
    rebuilt = codes @ atoms + model.pre_bias_.cpu().numpy()
    return {**measure(codes, rebuilt, atoms, data), "seconds": seconds}


# SAELens


def shuffled(rows: Tensor, batch_size: int, seed: int) -> Iterator[Tensor]:
    """Batches without end."""
    rng = np.random.default_rng(seed)
    while True:
        order = torch.from_numpy(rng.permutation(len(rows))).to(rows.device)
        for i in range(0, len(rows) - batch_size + 1, batch_size):
            yield rows[order[i : i + batch_size].sort().values]


def saelens(kind: str, rate: float = 3e-4, at_k: bool = False) -> Callable:
    """Train an autoencoder of SAELens, as its benchmark does, or at another rate."""

    def run(data: Data, m: int, k: int, samples: int, seed: int) -> dict[str, float]:
        sae_lens = _peers.sae_lens()
        from sae_lens.config import LoggingConfig, SAETrainerConfig
        from sae_lens.training.sae_trainer import SAETrainer

        torch.manual_seed(seed)
        device = data.train.device.type
        size = {"device": device, "d_in": data.train.shape[1], "d_sae": m}
        prefixes = [m // 32, m // 8, m // 2, m]
        sae = {
            "TopK": lambda: sae_lens.TopKTrainingSAE(
                sae_lens.TopKTrainingSAEConfig(**size, k=k)
            ),
            "BatchTopK": lambda: sae_lens.BatchTopKTrainingSAE(
                sae_lens.BatchTopKTrainingSAEConfig(**size, k=k)
            ),
            "Matryoshka": lambda: sae_lens.MatryoshkaBatchTopKTrainingSAE(
                sae_lens.MatryoshkaBatchTopKTrainingSAEConfig(
                    **size, k=k, matryoshka_widths=prefixes
                )
            ),
            "JumpReLU": lambda: sae_lens.JumpReLUTrainingSAE(
                sae_lens.JumpReLUTrainingSAEConfig(
                    **size,
                    jumprelu_sparsity_loss_mode="tanh",
                    jumprelu_tanh_scale=4,
                    jumprelu_bandwidth=2,
                    jumprelu_init_threshold=0.5,
                    pre_act_loss_coefficient=1.0,
                    decoder_init_norm=0.5,
                    normalize_activations="expected_average_only_in",
                )
            ),
            "standard": lambda: sae_lens.StandardTrainingSAE(
                sae_lens.StandardTrainingSAEConfig(**size, l1_coefficient=2)
            ),
            "matching pursuit": lambda: sae_lens.MatchingPursuitTrainingSAE(
                sae_lens.MatchingPursuitTrainingSAEConfig(
                    **size,
                    max_iterations=k,
                    residual_threshold=0.0,
                    decoder_init_norm=1.0,
                    stop_on_duplicate_support=False,
                )
            ),
        }[kind]()
        config = SAETrainerConfig(
            n_checkpoints=0,
            checkpoint_path=None,
            save_final_checkpoint=False,
            total_training_samples=samples,
            device=device,
            autocast=False,
            lr=rate,
            lr_end=rate,
            lr_scheduler_name="constant",
            lr_warm_up_steps=0,
            adam_beta1=0.9,
            adam_beta2=0.999,
            lr_decay_steps=0,
            n_restart_cycles=1,
            train_batch_size_samples=1024,
            dead_feature_window=1000,
            feature_sampling_window=2000,
            logger=LoggingConfig(log_to_wandb=False, eval_every_n_wandb_logs=2**31 - 1),
            n_batches_for_norm_estimate=1000,
        )

        class Tuned(SAETrainer):
            """After a third of the steps, the penalty is led to k active latents."""

            def _train_step(self, sae: object, sae_in: Tensor) -> object:
                output = super()._train_step(sae, sae_in)
                if self.n_training_samples > samples / 3:
                    active = float((output.feature_acts > 0).sum(dim=1).float().mean())
                    for penalty in self.coefficient_schedulers.values():
                        penalty.final_value *= (max(active, 0.1) / k) ** 0.05
                return output

        trainer = Tuned(
            cfg=config, sae=sae, data_provider=shuffled(data.train, 1024, seed)
        )
        start = time.perf_counter()
        trainer.fit()
        seconds = time.perf_counter() - start
        sae.eval()
        if at_k:
            set_to_k(sae, data.train[:20_000], k)
        codes, rebuilt = [], []
        with torch.no_grad():
            for part in torch.from_numpy(data.test).split(4096):
                code = sae.encode(part.to(device))
                codes.append(sp.csr_matrix(code.to_dense().cpu().numpy()))
                rebuilt.append(sae.decode(code).cpu().numpy())
        atoms = sae.W_dec.detach().cpu().numpy()
        return {
            **measure(sp.vstack(codes, "csr"), np.concatenate(rebuilt), atoms, data),
            "seconds": seconds,
        }

    return run


@torch.no_grad()
def set_to_k(sae: torch.nn.Module, rows: Tensor, k: int) -> None:
    """Multiply the thresholds of a JumpReLU so that k latents of a row are active."""
    ratios = (sae.process_sae_in(rows) @ sae.W_enc + sae.b_enc) / sae.threshold
    level = ratios.flatten().topk(k * len(rows)).values[-1]
    sae.threshold.mul_(level.clamp(min=0))


PEERS = {
    f"SAELens {kind}{', 3e-3' * fast}": saelens(kind, 3e-3 if fast else 3e-4)
    for fast in (False, True)
    for kind in (
        "TopK",
        "BatchTopK",
        "Matryoshka",
        "JumpReLU",
        "standard",
        "matching pursuit",
    )
} | {"SAELens JumpReLU, 3e-3, at k": saelens("JumpReLU", 3e-3, at_k=True)}


@lru_cache(maxsize=1)
def load_data(folder: str, seed: int, device: str) -> Data:
    """Read the rows of a seed; every process keeps those of one."""
    train, *rest = torch.load(Path(folder, f"{seed}.pt"), weights_only=False)
    return Data(train.to(device), *rest)


def train_one(
    name: str,
    seed: int,
    folder: str,
    device: str,
    m: int,
    k: int,
    samples: int,
    batch_size: int | str,
) -> dict[str, float]:
    """Train a dictionary, and compare it with the planted features."""
    data = load_data(folder, seed, device)
    if name in OURS:
        return run_ours(OURS[name], data, m, k, samples, seed, batch_size)
    return PEERS[name](data, m, k, samples, seed)


def trained(
    jobs: int, seeds: int, names: list[str], settings: tuple
) -> Iterator[tuple[str, dict[str, float]]]:
    """Train all dictionaries on the rows of all seeds; yield them as they finish.

    Beside others, one that fails is told and left out.
    """
    tasks = [(name, seed) for seed in range(seeds) for name in names]
    if jobs == 1:
        for name, seed in tasks:
            yield name, train_one(name, seed, *settings)
        return
    threads = max(1, (os.cpu_count() or 1) // jobs)
    with ProcessPoolExecutor(
        jobs,
        multiprocessing.get_context("spawn"),
        torch.set_num_threads,
        (threads,),
    ) as pool:
        runs = {pool.submit(train_one, *task, *settings): task[0] for task in tasks}
        for run in as_completed(runs):
            if error := run.exception():
                print(f"  {runs[run]} failed: {error!r}", flush=True)
            else:
                yield runs[run], run.result()


COLUMNS = ("F1", "MCC", "unique", "EV", "L0", "dead", "seconds")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--samples", type=int, default=3_000_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--size", choices=SIZES, default="scaled")
    parser.add_argument("--k", type=int, help="default: 10 scaled, 25 as published")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--batch-size",
        type=lambda text: text if text == "auto" else int(text),
        default=1024,
        help="rows a step of ours, or auto; SAELens has 1024, as published",
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--only", nargs="+", help="names of dictionaries")
    parser.add_argument("--quick", action="store_true", help="does it run at all?")
    args = parser.parse_args()
    if args.quick:
        args.rows, args.samples, args.seeds = 4000, 8000, 1
    size = SIZES[args.size]
    k = args.k or size.k
    print(f"{args.rows} rows, {args.samples} samples, {size.latents} latents, k = {k}")
    names = [n for n in (*OURS, *PEERS) if not args.only or n in args.only]
    runs: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(args.seeds):
            n_test = 4000 if args.quick else 40_000
            data = make_data(size, args.rows, n_test, seed, args.device)
            torch.save(tuple(data), Path(folder, f"{seed}.pt"))
            mean = data.fired.sum() / data.fired.shape[0]
            print(f"seed {seed}: {mean:.1f} features fire in a row", flush=True)
        settings = folder, args.device, size.latents, k, args.samples, args.batch_size
        for name, row in trained(args.jobs, args.seeds, names, settings):
            runs.setdefault(name, []).append(row)
            print(f"  {name:29}", *(f"{c} {row[c]:.3f}" for c in COLUMNS), flush=True)
    runs = {name: runs[name] for name in names if name in runs}
    print(f"\n{'':29}" + "".join(f"{c:>17}" for c in COLUMNS))
    for name, rows in runs.items():
        print(f"{name:29}", end="")
        for column in COLUMNS:
            values = [row[column] for row in rows]
            spread = (max(values) - min(values)) / 2
            print(f"{f'{np.mean(values):.3f} +- {spread:.3f}':>17}", end="")
        print()


if __name__ == "__main__":
    main()
