"""Small files of other libraries, and what those libraries compute from them.

The files are written from the descriptions of their formats, the encoders are the
published formulas in numpy and float64. No other library is needed.
"""

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from skdict import SAE, TopKSAE


@dataclass
class Case:
    """A dictionary of another library.

    Attributes
    ----------
    write : callable
        Writes the files into an empty folder and returns what is to be read.
    encode, decode : callable
        As in the other library.
    norms : ndarray of shape (F,)
        Norms of the atoms, by which skdict's codes are larger.
    options : dict
        Arguments of read_dictionary.
    """

    write: Callable[[Path], Path]
    encode: Callable[[np.ndarray], np.ndarray]
    decode: Callable[[np.ndarray], np.ndarray]
    norms: np.ndarray
    options: dict[str, Any]


def safetensors(tensors, metadata=None):
    """Bytes of a safetensors file; bfloat16 comes as ("BF16", array of uint16)."""
    names = {"f8": "F64", "f4": "F32", "f2": "F16", "i8": "I64", "i4": "I32"}
    header, body = {}, b""
    if metadata is not None:
        header["__metadata__"] = metadata
    for name, value in tensors.items():
        dtype, array = value if isinstance(value, tuple) else (None, value)
        data = np.ascontiguousarray(array).tobytes()
        header[name] = {
            "dtype": dtype or names[array.dtype.str[1:]],
            "shape": list(array.shape),
            "data_offsets": [len(body), len(body) + len(data)],
        }
        body += data
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def read_safetensors(path):
    """Tensors of a file in which all are float32 or float64."""
    data = path.read_bytes()
    (n_header,) = struct.unpack("<Q", data[:8])
    header, body = json.loads(data[8 : 8 + n_header]), data[8 + n_header :]
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        dtype = {"F32": "<f4", "F64": "<f8"}[entry["dtype"]]
        tensors[name] = np.frombuffer(body[begin:end], dtype).reshape(entry["shape"])
    return tensors


def theirs(folder, X):
    """Codes and reconstruction that SAELens or sparsify compute from a folder."""
    settings = json.loads((folder / "cfg.json").read_text())
    if (folder / "sae.safetensors").exists():
        t = read_safetensors(folder / "sae.safetensors")
        pre = (X - t["b_dec"]) @ t["encoder.weight"].T + t["encoder.bias"]
        codes = largest(relu(pre), settings["k"])
        return codes, codes @ t["W_dec"] + t["b_dec"]
    t = {
        name: array.astype(np.float64)
        for name, array in read_safetensors(folder / "sae_weights.safetensors").items()
    }
    assert settings["metadata"]["sae_lens_version"].startswith("6.")
    assert settings["apply_b_dec_to_input"]
    assert settings["normalize_activations"] == "none"
    assert [settings["d_sae"], settings["d_in"]] == list(t["W_dec"].shape)
    x, kind = X - t["b_dec"], settings["architecture"]
    if kind == "matching_pursuit":
        assert settings["residual_threshold"] == 0
        assert not settings["stop_on_duplicate_support"]
        codes = pursue(x, t["W_dec"], settings["max_iterations"])
    elif kind == "gated":
        linear = x @ t["W_enc"]
        magnitude = relu(linear * np.exp(t["r_mag"]) + t["b_mag"])
        codes = (linear + t["b_gate"] > 0) * magnitude
    else:
        pre = x @ t["W_enc"] + t["b_enc"]
        if kind in ("topk", "abstopk"):
            assert not settings["rescale_acts_by_decoder_norm"]
        codes = {
            "standard": lambda: relu(pre),
            "topk": lambda: relu(largest(pre, settings["k"])),
            "abstopk": lambda: largest(pre, settings["k"], by=abs(pre)),
            "jumprelu": lambda: relu(pre) * (pre > t["threshold"]),
        }[kind]()
    return codes, codes @ t["W_dec"] + t["b_dec"]


def write_folder(folder, files):
    """Write bytes, JSON objects and state dicts under their names."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif name.endswith(".json"):
            path.write_text(json.dumps(content))
        else:
            torch.save(as_tensors(content), path)
    return folder


def as_tensors(arrays):
    return {name: torch.tensor(np.asarray(array)) for name, array in arrays.items()}


def relu(x):
    return np.maximum(x, 0)


def largest(x, k, by=None):
    """Keep the k largest entries of each row."""
    by = x if by is None else by
    places = np.argsort(-by, axis=1, kind="stable")[:, :k]
    kept = np.zeros_like(x)
    np.put_along_axis(kept, places, np.take_along_axis(x, places, 1), 1)
    return kept


def pursue(x, atoms, k):
    """Matching pursuit with coefficients that are not negative."""
    codes, residual = np.zeros((len(x), len(atoms))), x.copy()
    rows = np.arange(len(x))
    for _ in range(k):
        best = (residual @ atoms.T).argmax(1)
        value = relu((residual * atoms[best]).sum(1))
        codes[rows, best] += value
        residual -= value[:, None] * atoms[best]
    return codes


def random_arrays(rng, n, d, *, norms=None):
    """Encoder (F, D), its bias, atoms (F, D) and the decoder's bias."""
    atoms = rng.normal(size=(n, d))
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    if norms is not None:
        atoms *= norms[:, None]
    encoder = atoms + 0.3 * rng.normal(size=(n, d))
    return encoder, 0.2 * rng.normal(size=n), atoms, rng.normal(size=d)


# Which libraries' dictionaries take atoms of any norm.
NEED_UNIT_ATOMS = {
    "saelens-topk",
    "saelens-abstopk",
    "saelens-matching_pursuit",
    "dictionary_learning-AutoEncoderTopK",
    "dictionary_learning-MatryoshkaBatchTopKSAE",  # becomes a JumpReLUSAE otherwise
    "sparsify-topk",
    "saev-BatchTopK+unit",  # becomes a JumpReLUSAE otherwise
    "overcomplete-SAE",
    "overcomplete-TopKSAE",
    "overcomplete-JumpSAE",
}


def make_case(name, rng, n=12, d=5, k=3):
    """The case of that name, with random parameters."""
    norms = np.ones(n) if name in NEED_UNIT_ATOMS else rng.uniform(0.3, 3.0, size=n)
    library, kind = name.split("-", 1)
    return _MAKERS[library](kind, rng, n, d, k, norms)


def _linear(encoder, bias, activation, before):
    return lambda x: activation((x - before) @ encoder.T + bias)


def _saelens(kind, rng, n, d, k, norms):
    kind, _, variant = kind.partition("+")
    encoder, bias, atoms, b_dec = random_arrays(rng, n, d, norms=norms)
    tensors = {"W_enc": encoder.T, "b_enc": bias, "W_dec": atoms, "b_dec": b_dec}
    settings = {
        "architecture": kind,
        "d_in": d,
        "d_sae": n,
        "dtype": "float64",
        "device": "cpu",
        "apply_b_dec_to_input": variant != "no_subtraction",
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {"sae_lens_version": "6.54.12", "hook_name": "blocks.3"},
    }
    before = b_dec * settings["apply_b_dec_to_input"]
    threshold = rng.uniform(0.1, 1.0, size=n)
    decode = lambda z: z @ atoms + b_dec  # noqa: E731
    if kind == "standard":
        encode = _linear(encoder, bias, relu, before)
    elif kind == "topk":
        settings |= {"k": k, "rescale_acts_by_decoder_norm": variant == "rescaled"}
        scale = norms if variant == "rescaled" else np.ones(n)
        encode = _linear(encoder, bias, lambda a: relu(largest(a * scale, k)), before)
        decode = lambda z: z / scale @ atoms + b_dec  # noqa: E731
        norms = norms / np.where(scale > 0, scale, 1)
    elif kind == "abstopk":
        settings |= {"k": k, "rescale_acts_by_decoder_norm": False}
        encode = _linear(encoder, bias, lambda a: largest(a, k, by=abs(a)), before)
    elif kind == "jumprelu":
        tensors["threshold"] = threshold
        if variant == "log_threshold":
            tensors["log_threshold"] = np.log(tensors.pop("threshold"))
        encode = _linear(encoder, bias, lambda a: relu(a) * (a > threshold), before)
    elif kind == "gated":
        del tensors["b_enc"]
        log_gain, magnitude = 0.3 * rng.normal(size=n), 0.2 * rng.normal(size=n)
        tensors |= {"b_gate": bias, "r_mag": log_gain, "b_mag": magnitude}

        def encode(x):
            linear = (x - before) @ encoder.T
            is_open = linear + bias > 0
            return is_open * relu(linear * np.exp(log_gain) + magnitude)

    else:
        # Opposite atoms, so that every row has a positive correlation.
        half = n // 2
        atoms[half : 2 * half] = -atoms[:half]
        if n % 2:
            atoms[-1] = -(atoms[0] + 2 * atoms[1])
            atoms[-1] /= np.linalg.norm(atoms[-1])
        tensors = {"W_dec": atoms, "b_dec": b_dec}
        settings |= {
            "residual_threshold": 0.0,
            "max_iterations": k,
            "stop_on_duplicate_support": False,
        }
        encode = lambda x: pursue(x - before, atoms, k)  # noqa: E731
    files = {"sae_weights.safetensors": safetensors(tensors), "cfg.json": settings}
    return Case(lambda f: write_folder(f, files), encode, decode, norms, {})


def _dictionary_learning(kind, rng, n, d, k, norms):
    encoder, bias, atoms, b_dec = random_arrays(rng, n, d, norms=norms)
    linear = {
        "encoder.weight": encoder,
        "encoder.bias": bias,
        "decoder.weight": atoms.T,
    }
    plain = {"W_enc": encoder.T, "b_enc": bias, "W_dec": atoms, "b_dec": b_dec}
    batch = {"k": np.array(k, np.int32), "threshold": np.array(0.4)}
    encode = _linear(encoder, bias, relu, b_dec)
    if kind == "AutoEncoder":
        tensors = {**linear, "bias": b_dec}
    elif kind == "AutoEncoderNew":
        tensors = {**linear, "decoder.bias": b_dec}
        encode = _linear(encoder, bias, relu, 0)
    elif kind == "GatedAutoEncoder":
        log_gain, magnitude = 0.3 * rng.normal(size=n), 0.2 * rng.normal(size=n)
        tensors = {
            "decoder_bias": b_dec,
            "encoder.weight": encoder,
            "r_mag": log_gain,
            "gate_bias": bias,
            "mag_bias": magnitude,
            "decoder.weight": atoms.T,
        }

        def encode(x):
            linear = (x - b_dec) @ encoder.T
            return (linear + bias > 0) * relu(np.exp(log_gain) * linear + magnitude)

    elif kind == "AutoEncoderTopK":
        tensors = {**linear, "b_dec": b_dec, **batch}
        encode = _linear(encoder, bias, lambda a: relu(largest(a, k)), b_dec)
    elif kind == "JumpReluAutoEncoder":
        threshold = rng.uniform(0.1, 1.0, size=n)
        tensors = {**plain, "threshold": threshold}
        encode = _linear(encoder, bias, lambda a: relu(a * (a > threshold)), 0)
    else:
        tensors = {**linear, "b_dec": b_dec, **batch}
        if kind == "MatryoshkaBatchTopKSAE":
            tensors = {**plain, **batch, "group_sizes": np.array([2, 3, n - 5])}
        encode = _linear(encoder, bias, lambda a: relu(a) * (relu(a) > 0.4), b_dec)
    files = {
        "trainer_0/config.json": {
            "trainer": {"dict_class": kind, "dict_size": n},
            "buffer": {},
        },
        "trainer_0/ae.pt": tensors,
    }
    return Case(
        lambda f: write_folder(f, files) / "trainer_0",
        encode,
        lambda z: z @ atoms + b_dec,
        norms,
        {},
    )


def _sparsify(kind, rng, n, d, k, norms):
    encoder, bias, atoms, b_dec = random_arrays(rng, n, d, norms=norms)
    tensors = {
        "W_dec": atoms,
        "b_dec": b_dec,
        "encoder.bias": bias,
        "encoder.weight": encoder,
    }
    settings = {
        "activation": kind,
        "expansion_factor": 32,
        "normalize_decoder": True,
        "num_latents": n,
        "k": k,
        "multi_topk": False,
        "skip_connection": False,
        "transcode": False,
        "d_in": d,
    }
    files = {"sae.safetensors": safetensors(tensors), "cfg.json": settings}
    return Case(
        lambda f: write_folder(f, files),
        _linear(encoder, bias, lambda a: largest(relu(a), k), b_dec),
        lambda z: z @ atoms + b_dec,
        norms,
        {},
    )


def _saev(kind, rng, n, d, k, norms):
    kind, _, _ = kind.partition("+")
    encoder, bias, atoms, b_dec = random_arrays(rng, n, d, norms=norms)
    tensors = {"W_enc": encoder.T, "b_enc": bias, "W_dec": atoms, "b_dec": b_dec}
    before, activation = 0, relu
    if kind == "release":
        header, before = {"d_vit": d, "exp_factor": 2, "ghost_grads": False}, b_dec
    else:
        params = {} if kind == "Relu" else {"top_k": k}
        cfg = {"d_model": d, "d_sae": n, "activation": {"cls": kind, "params": params}}
        header = {"schema": 5, "cfg": cfg, "commit": "unknown", "lib": "0.4.0"}
    if kind == "BatchTopK":
        tensors["activation.threshold"] = np.array(0.4)
        activation = lambda a: a * (a > 0.4)  # noqa: E731

    def write(folder):
        path = folder / "checkpoint" / "sae.pt"
        path.parent.mkdir()
        with open(path, "wb") as file:
            file.write(json.dumps(header).encode() + b"\n")
            torch.save(as_tensors(tensors), file)
        return folder

    return Case(
        write,
        _linear(encoder, bias, activation, before),
        lambda z: z @ atoms + b_dec,
        norms,
        {},
    )


def _overcomplete(kind, rng, n, d, k, norms):
    encoder, bias, atoms, _ = random_arrays(rng, n, d, norms=norms)
    tensors = {
        "encoder.final_block.0.weight": encoder,
        "encoder.final_block.0.bias": bias,
        "dictionary._weights": atoms,
        "dictionary.multiplier": np.array(0.7),
    }
    options, activation = {"estimator": SAE()}, relu
    scale = np.exp(0.7)
    if kind == "TopKSAE":
        options = {"estimator": TopKSAE(k=k)}
        activation = lambda a: largest(relu(a), k)  # noqa: E731
    elif kind == "JumpSAE":
        threshold = rng.uniform(0.1, 1.0, size=n)
        tensors["thresholds"] = np.log(threshold)
        options = {}
        activation = lambda a: relu(a) * (relu(a) >= threshold)  # noqa: E731
    elif kind == "RA-SAE":
        points = rng.normal(size=(4, d))
        mixture = rng.dirichlet(np.ones(4), size=n)
        relaxation = 0.1 * rng.normal(size=(n, d))
        del tensors["dictionary._weights"]
        tensors |= {
            "dictionary.C": points,
            "dictionary.W": mixture,
            "dictionary.Relax": relaxation,
        }
        atoms = mixture @ points + relaxation
        norms = np.linalg.norm(atoms, axis=1)
    decoder = scale * atoms
    return Case(
        lambda f: write_folder(f, {"model.pt": tensors}) / "model.pt",
        _linear(encoder, bias, activation, 0),
        lambda z: z @ decoder,
        scale * norms,
        options,
    )


_MAKERS = {
    "saelens": _saelens,
    "dictionary_learning": _dictionary_learning,
    "sparsify": _sparsify,
    "saev": _saev,
    "overcomplete": _overcomplete,
}

# Each case, and the estimator that it becomes.
CASES = {
    "saelens-standard": "SAE",
    "saelens-standard+no_subtraction": "SAE",
    "saelens-topk": "TopKSAE",
    "saelens-topk+rescaled": "TopKSAE",
    "saelens-abstopk": "TopKSAE",
    "saelens-jumprelu": "JumpReLUSAE",
    "saelens-jumprelu+log_threshold": "JumpReLUSAE",
    "saelens-jumprelu+no_subtraction": "JumpReLUSAE",
    "saelens-gated": "GatedSAE",
    "saelens-gated+no_subtraction": "GatedSAE",
    "saelens-matching_pursuit": "MatchingPursuitSAE",
    "dictionary_learning-AutoEncoder": "SAE",
    "dictionary_learning-AutoEncoderNew": "SAE",
    "dictionary_learning-GatedAutoEncoder": "GatedSAE",
    "dictionary_learning-AutoEncoderTopK": "TopKSAE",
    "dictionary_learning-BatchTopKSAE": "JumpReLUSAE",  # its atoms have other norms
    "dictionary_learning-JumpReluAutoEncoder": "JumpReLUSAE",
    "dictionary_learning-MatryoshkaBatchTopKSAE": "MatryoshkaSAE",
    "sparsify-topk": "TopKSAE",
    "saev-release": "SAE",
    "saev-Relu": "SAE",
    "saev-BatchTopK": "JumpReLUSAE",
    "saev-BatchTopK+unit": "BatchTopKSAE",
    "overcomplete-SAE": "SAE",
    "overcomplete-TopKSAE": "TopKSAE",
    "overcomplete-JumpSAE": "JumpReLUSAE",
    "overcomplete-RA-SAE": "SAE",
}
