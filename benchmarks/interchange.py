"""Do dictionaries compute the same in the library that wrote them and in skdict?

Run ``python benchmarks/interchange.py`` (a few minutes). Each peer writes dictionaries
with random parameters and some that it trained for a short time; skdict reads them.
Then skdict writes its own, with and without steps before them, and the peer reads
them. Codes and reconstructions of the same rows are compared: the largest difference,
relative to the largest number. Where two pre-activations agree to the last digits, the
two libraries may choose different latents; such rows are counted, and compared by their
reconstruction alone. A peer that is missing has a line that says so.
"""

from __future__ import annotations

import copy
import json
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import _peers
import numpy as np
import torch
from _timing import arguments, machine
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdict import (
    ICFL,
    SAE,
    ArchetypalSAE,
    BatchTopKSAE,
    ControlPCAWhitener,
    GatedSAE,
    JumpReLUSAE,
    MatchingPursuitSAE,
    MatryoshkaSAE,
    TopKSAE,
)
from skdict.datasets import make_planted_dictionary
from skdict.interchange import read_dictionary, write_dictionary

D, F, K = 32, 128, 6
STEPS = 300

Coder = Callable[[torch.Tensor], torch.Tensor]


@dataclass
class Peer:
    """A dictionary in another library.

    Attributes
    ----------
    name : str
        Format and architecture.
    write : callable
        Writes it into a folder, and returns what skdict is to read.
    encode, decode : callable
        Of the other library.
    norms : Tensor of shape (F,)
        Norms of the atoms, by which skdict's codes are larger.
    options : dict
        Of read_dictionary.
    """

    name: str
    write: Callable[[Path], Path]
    encode: Coder
    decode: Coder
    norms: torch.Tensor
    options: dict[str, Any]


def main() -> None:
    args = arguments(__doc__)
    torch.manual_seed(0)
    print("\n".join(machine()))
    n_rows = 500 if args.quick else 4000
    planted = make_planted_dictionary(n_rows, D, random_state=0)
    X = (planted.data + 3).astype(np.float32)
    rows, n_steps = torch.from_numpy(X), 20 if args.quick else STEPS
    lines = [
        (
            "direction",
            "format",
            "dictionary",
            "codes",
            "reconstruction",
            "chosen otherwise",
        )
    ]
    for peers in (
        of_saelens,
        of_dictionary_learning,
        of_sparsify,
        of_saev,
        of_overcomplete,
    ):
        name = peers.__name__.removeprefix("of_")
        try:
            for peer in peers(rows, n_steps):
                lines.append(("read", *reading(peer, rows)))
        except _peers.MissingPeerError as error:
            lines.append(("read", name, f"not measured: {error}", "", "", ""))
    for format, theirs in {
        "saelens": saelens_coders,
        "sparsify": sparsify_coders,
    }.items():
        try:
            lines += writing(format, theirs, X)
        except _peers.MissingPeerError as error:
            lines.append(("write", format, f"not measured: {error}", "", "", ""))
    widths = [max(len(line[i]) for line in lines) for i in range(6)]
    for line in lines:
        print("  ".join(text.ljust(w) for text, w in zip(line, widths, strict=True)))


# Comparison


def reading(peer: Peer, rows: torch.Tensor) -> tuple[str, ...]:
    with tempfile.TemporaryDirectory() as folder:
        estimator = read_dictionary(peer.write(Path(folder)), **peer.options)
    with torch.no_grad():
        codes = peer.encode(rows)
        rebuilt = peer.decode(codes).numpy()
    format, _, name = peer.name.partition(": ")
    ours = estimator.transform(rows.numpy())
    figures = compare(
        (codes * peer.norms).numpy(),
        rebuilt,
        ours.toarray(),
        estimator.inverse_transform(ours),
    )
    return (format, f"{name} -> {type(estimator).__name__}", *figures)


def compare(codes, X_hat, other_codes, other_X_hat) -> tuple[str, ...]:
    """Relative differences of codes and reconstructions, and rows chosen otherwise."""
    scale = abs(codes).max()
    # What is active in one only, and more than rounding.
    chosen = ((codes != 0) != (other_codes != 0)) & (
        abs(codes - other_codes) > 1e-4 * scale
    )
    same = ~chosen.any(1)
    difference = abs(codes - other_codes)[same].max() / scale
    rebuilt = abs(X_hat - other_X_hat)[same].max() / abs(X_hat).max()
    return f"{difference:.1e}", f"{rebuilt:.1e}", f"{(~same).sum()} of {len(same)}"


def writing(format: str, theirs, X: np.ndarray) -> Iterator[tuple[str, ...]]:
    for steps, before in {
        "": [],
        "whitened ": [ControlPCAWhitener()],
        "standardised ": [StandardScaler()],
        "PCA, 20 axes, ": [PCA(20)],
        "standardised, PCA-whitened ": [StandardScaler(), PCA(20, whiten=True)],
    }.items():
        for name, estimator in estimators(X).items():
            if format == "sparsify" and name not in ("TopKSAE", "ArchetypalSAE"):
                continue
            is_pursuit = name in ("MatchingPursuitSAE", "ICFL, one atom a step")
            if is_pursuit and steps not in ("", "PCA, 20 axes, "):
                continue
            pipe = make_pipeline(*map(clone, before), clone(estimator))
            whitens = {"controlpcawhitener__control": np.arange(len(X)) % 2 == 0}
            pipe.fit(X, **(whitens if steps == "whitened " else {}))
            with tempfile.TemporaryDirectory() as folder:
                write_dictionary(pipe, folder, format)
                encode, decode = theirs(Path(folder))
                with torch.no_grad():
                    codes = encode(torch.from_numpy(X))
                    X_hat = decode(codes).numpy()
            ours = pipe.transform(X)
            figures = compare(
                codes.numpy(), X_hat, ours.toarray(), pipe.inverse_transform(ours)
            )
            yield ("write", format, steps + name, *figures)


def estimators(X: np.ndarray) -> dict[str, Any]:
    common = {"n_components": F, "random_state": 0, "max_iter": 5}
    return {
        "SAE": SAE(k=K, **common),
        "TopKSAE": TopKSAE(k=K, **common),
        "TopKSAE, absolute": TopKSAE(k=K, selection="absolute", **common),
        "ArchetypalSAE": ArchetypalSAE(k=K, n_archetypes=200, **common),
        "BatchTopKSAE": BatchTopKSAE(k=K, **common),
        "MatryoshkaSAE": MatryoshkaSAE(k=K, **common),
        "JumpReLUSAE": JumpReLUSAE(k=K, **common),
        "GatedSAE": GatedSAE(k=K, **common),
        "MatchingPursuitSAE": MatchingPursuitSAE(k=K, **common),
        "ICFL, one atom a step": ICFL(k=K, atoms_per_step=1, **common),
    }


def descend(
    parameters, loss_of: Callable[[], torch.Tensor], n_steps: int, after
) -> None:
    optimizer = torch.optim.Adam(parameters, lr=1e-3)
    for _ in range(n_steps):
        optimizer.zero_grad()
        loss_of().backward()
        optimizer.step()
        after()


def randomise(module: torch.nn.Module, unit: Callable[[], None]) -> None:
    """Draw all parameters anew, so that no bias or threshold is zero."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            scale = 1.0 if parameter.ndim < 2 else parameter.shape[-1] ** -0.5
            parameter.normal_().mul_(0.3 * scale)
            if "threshold" in name:
                parameter.abs_()
        unit()


# SAELens


def of_saelens(rows: torch.Tensor, n_steps: int) -> Iterator[Peer]:
    sae_lens = _peers.sae_lens()
    from sae_lens import TrainingSAE
    from sae_lens.registry import get_sae_class, get_sae_training_class
    from sae_lens.saes.sae import TrainStepInput

    sizes = {"d_in": D, "d_sae": F}
    pursuit = {
        "max_iterations": K,
        "residual_threshold": 0.0,
        "stop_on_duplicate_support": False,
    }
    for architecture, options in {
        "standard": {},
        "topk": {"k": K},
        "topk rescaled": {"k": K, "rescale_acts_by_decoder_norm": True},
        "abstopk": {"k": K},
        "jumprelu": {},
        "gated": {},
        "matching_pursuit": pursuit,
        "standard without subtraction": {"apply_b_dec_to_input": False},
        "jumprelu without subtraction": {"apply_b_dec_to_input": False},
        "gated without subtraction": {"apply_b_dec_to_input": False},
    }.items():
        cls, config = get_sae_class(architecture.split()[0])
        sae = cls(config(**sizes, **options))
        needs_unit = "topk" in architecture or architecture == "matching_pursuit"

        def unit(sae=sae, needs_unit=needs_unit and "rescaled" not in architecture):
            if needs_unit:
                sae.W_dec.data /= sae.W_dec.norm(dim=1, keepdim=True)

        randomise(sae, unit)
        yield _saelens_peer(f"saelens: {architecture}, random", sae, sae.save_model)

    for architecture, options in {
        "standard": {"l1_coefficient": 0.1},
        "topk": {"k": K},
        "abstopk": {"k": K},
        "batchtopk": {"k": K},
        "matryoshka_batchtopk": {"k": K, "matryoshka_widths": [16, 64, F]},
        "jumprelu": {"l0_coefficient": 0.1},
        "gated": {"l1_coefficient": 0.1},
        "matching_pursuit": pursuit,
    }.items():
        cls, config = get_sae_training_class(architecture)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of settings that it corrects
            sae: TrainingSAE = cls(config(**sizes, **options))
        coefficients = {
            name: getattr(value, "value", value)
            for name, value in sae.get_coefficients().items()
        }
        steps = iter(range(10**9))

        def loss(sae=sae, coefficients=coefficients, steps=steps):
            batch = rows[torch.randint(len(rows), (256,))]
            step = TrainStepInput(batch, coefficients, None, next(steps), False)
            return sae.training_forward_pass(step).loss

        def after(sae=sae, architecture=architecture):
            if architecture == "matching_pursuit":  # as its trainer does
                sae.W_dec.data /= sae.W_dec.norm(dim=1, keepdim=True)

        sae.train()
        descend(sae.parameters(), loss, n_steps, after)
        with tempfile.TemporaryDirectory() as folder:
            sae.save_inference_model(folder)
            saved = sae_lens.SAE.load_from_disk(folder)
        yield _saelens_peer(
            f"saelens: {architecture}, trained", saved, sae.save_inference_model
        )


def _saelens_peer(name: str, sae, save) -> Peer:
    norms = sae.W_dec.detach().norm(dim=1)
    if getattr(sae.cfg, "rescale_acts_by_decoder_norm", False):
        norms = torch.ones_like(norms)

    def write(folder: Path) -> Path:
        save(folder)
        return folder

    return Peer(name, write, sae.encode, sae.decode, _unless_one(norms), {})


def _unless_one(norms: torch.Tensor) -> torch.Tensor:
    """skdict leaves norms that are one up to rounding as they are."""
    if ((norms - 1).abs() < 5e-3).all():
        return torch.ones_like(norms)
    return norms


def saelens_coders(folder: Path) -> tuple[Coder, Coder]:
    sae_lens = _peers.sae_lens()

    sae = sae_lens.SAE.load_from_disk(folder)
    return sae.encode, sae.decode


# dictionary_learning


def of_dictionary_learning(rows: torch.Tensor, n_steps: int) -> Iterator[Peer]:
    _peers.dictionary_learning()
    from dictionary_learning.trainers.batch_top_k import BatchTopKTrainer
    from dictionary_learning.trainers.gdm import GatedSAETrainer
    from dictionary_learning.trainers.jumprelu import JumpReluTrainer
    from dictionary_learning.trainers.matryoshka_batch_top_k import (
        MatryoshkaBatchTopKTrainer,
    )
    from dictionary_learning.trainers.standard import (
        StandardTrainer,
        StandardTrainerAprilUpdate,
    )
    from dictionary_learning.trainers.top_k import TopKTrainer

    common = {
        "steps": n_steps,
        "activation_dim": D,
        "dict_size": F,
        "layer": 0,
        "lm_name": "none",
        "warmup_steps": 5,
        "lr": 1e-3,
        "device": "cpu",
    }
    threshold = {"k": K, "threshold_start_step": 5}
    for trainer, options in {
        StandardTrainer: {"sparsity_warmup_steps": 5},
        StandardTrainerAprilUpdate: {"sparsity_warmup_steps": 5},
        GatedSAETrainer: {"sparsity_warmup_steps": 5},
        JumpReluTrainer: {"sparsity_warmup_steps": 5},
        TopKTrainer: threshold,
        BatchTopKTrainer: threshold,
        MatryoshkaBatchTopKTrainer: {
            **threshold,
            "group_fractions": [0.125, 0.375, 0.5],
        },
    }.items():
        training = trainer(**common, **options)
        for step in range(n_steps):
            training.update(step, rows[torch.randint(len(rows), (256,))])
        yield _learning_peer(training, "trained")
        training.ae = copy.deepcopy(training.ae)

        def unit(ae=training.ae, trainer=trainer):
            # The April update and the gated one leave atoms of any norm.
            if "TopK" in trainer.__name__:
                atoms = ae.decoder.weight.T if hasattr(ae, "decoder") else ae.W_dec
                atoms.data.div_(atoms.norm(dim=1, keepdim=True))

        randomise(training.ae, unit)
        yield _learning_peer(training, "random")


def _learning_peer(training, how: str) -> Peer:
    ae = training.ae
    atoms = ae.decoder.weight.T if hasattr(ae, "decoder") else ae.W_dec

    def write(folder: Path) -> Path:
        torch.save(ae.state_dict(), folder / "ae.pt")
        config = {"trainer": training.config}
        (folder / "config.json").write_text(json.dumps(config, default=float))
        return folder

    return Peer(
        f"dictionary_learning: {type(training).__name__}, {how}",
        write,
        ae.encode,
        ae.decode,
        _unless_one(atoms.detach().norm(dim=1)),
        {},
    )


# sparsify


def of_sparsify(rows: torch.Tensor, n_steps: int) -> Iterator[Peer]:
    sparsify = _peers.sparsify()
    config = sparsify.SparseCoderConfig(num_latents=F, k=K)
    for how in ("random", "trained"):
        coder = sparsify.SparseCoder(D, config)
        unit = coder.set_decoder_norm_to_unit_norm
        if how == "random":
            randomise(coder, unit)
        else:

            def loss(coder=coder):
                return coder(rows[torch.randint(len(rows), (256,))]).fvu

            descend(coder.parameters(), loss, n_steps, unit)

        def write(folder: Path, coder=coder) -> Path:
            coder.save_to_disk(folder)
            return folder

        encode, decode = _sparsify_coders(coder)
        yield Peer(f"sparsify: topk, {how}", write, encode, decode, torch.ones(F), {})


def _sparsify_coders(coder) -> tuple[Coder, Coder]:
    def encode(x: torch.Tensor) -> torch.Tensor:
        values, indices, _ = coder.encode(x.to(coder.dtype))
        shape = len(x), coder.num_latents
        return torch.zeros(shape, dtype=values.dtype).scatter_(1, indices, values)

    def decode(codes: torch.Tensor) -> torch.Tensor:
        return coder.decode(*codes.topk(min(4 * K, codes.shape[1])))

    return encode, decode


def sparsify_coders(folder: Path) -> tuple[Coder, Coder]:
    return _sparsify_coders(_peers.sparsify().SparseCoder.load_from_disk(folder))


# saev


def of_saev(rows: torch.Tensor, n_steps: int) -> Iterator[Peer]:
    nn = _peers.saev_nn()
    from saev import config

    for how in ("random", "trained"):
        settings = config.SparseAutoencoder(d_vit=D, exp_factor=F // D)
        sae = nn.SparseAutoencoder(settings)
        if how == "random":
            randomise(sae, lambda: None)
        else:

            def loss(sae=sae):
                return sae(rows[torch.randint(len(rows), (256,))])[2].loss

            descend(sae.parameters(), loss, n_steps, sae.normalize_w_dec)

        def write(folder: Path, sae=sae) -> Path:
            nn.dump(str(folder / "sae.pt"), sae)
            return folder

        yield Peer(
            f"saev: release 0.1, {how}",
            write,
            lambda x, sae=sae: sae(x)[1],
            sae.decode,
            _unless_one(sae.W_dec.detach().norm(dim=1)),
            {},
        )


# overcomplete


def of_overcomplete(rows: torch.Tensor, n_steps: int) -> Iterator[Peer]:
    module = _peers.overcomplete_sae()
    multiplier = {"use_multiplier": True}
    for how in ("random", "trained"):
        for name, make in {
            "SAE": lambda: module.SAE(D, F, dictionary_params=multiplier),
            "TopKSAE": lambda: module.TopKSAE(
                D, F, top_k=K, dictionary_params=multiplier
            ),
            "JumpSAE": lambda: module.JumpSAE(D, F),
            "RAJumpSAE": lambda: module.RAJumpSAE(D, F, points=rows[:200]),
        }.items():
            sae = make().train()
            if how == "random":
                randomise(sae.encoder, lambda: None)
            else:

                def loss(sae=sae):
                    batch = rows[torch.randint(len(rows), (256,))]
                    return (sae(batch)[2] - batch).square().mean()

                learned = [p for p in sae.parameters() if p.requires_grad]
                descend(learned, loss, n_steps, sae.get_dictionary)
            sae.eval()

            def write(folder: Path, sae=sae) -> Path:
                torch.save(sae.state_dict(), folder / "model.pt")
                return folder / "model.pt"

            options = {"SAE": SAE(), "TopKSAE": TopKSAE(k=K)}
            yield Peer(
                f"overcomplete: {name}, {how}",
                write,
                lambda x, sae=sae: sae.encode(x)[1],
                sae.decode,
                _unless_one(sae.get_dictionary().detach().norm(dim=1)),
                {"estimator": options[name]} if name in options else {},
            )


if __name__ == "__main__":
    main()
