"""The figures of one dictionary on one fold."""

from __future__ import annotations

from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.utils import gen_batches

from skdict._utils.arrays import compact
from skdict._utils.labels import encode
from skdict._utils.types import Codes, Seed
from skdict.metrics import (
    dead_feature_fraction,
    explained_variance,
    feature_density,
    mean_coherence,
    mutual_coherence,
    reconstruction_cosine,
)
from skdict.stats import (
    ROUNDING,
    Exchange,
    balanced_accuracy,
    can_permute,
    encode_classes,
    find_active,
    null_of_best,
    number_images,
    permutation_p_value,
    score_features,
)

from ._routing import fit_step, is_frozen, transform_step

# Number of atoms that are decoded at a time.
_BLOCK_ATOMS = 1024


class Part(NamedTuple):
    """Rows of one side of a fold, with their labels and metadata."""

    X: Any
    y: Any  # None without classes
    groups: Any
    params: dict
    grid_shape: tuple[int, int] | None = None  # of the tokens of an image


def measure_dictionary(
    dictionary: Any,
    train: Part,
    test: Part,
    *,
    probe: Any,
    n_permutations: int,
    seed: Seed,
) -> dict[str, float]:
    """Fit a dictionary on one part, measure it on the other."""
    start = perf_counter()
    fitted = fit_step(dictionary, train.X, train.y, train.params)
    seconds = {} if is_frozen(dictionary) else {"fit_seconds": perf_counter() - start}
    start = perf_counter()
    codes = transform_step(fitted, test.X, test.params)
    seconds["encode_seconds"] = perf_counter() - start
    X_hat = fitted.inverse_transform(codes)

    train_codes = transform_step(fitted, train.X, train.params)
    if probe is not None:
        train_X_hat = fitted.inverse_transform(train_codes)
    train_codes = compact(train_codes)
    atoms = decoded_atoms(fitted, codes)
    figures = {
        "cosine": reconstruction_cosine(test.X, X_hat),
        "explained_variance": explained_variance(test.X, X_hat),
        "l0": float(feature_density(codes).sum()),
        # Features that are silent on a few held-out rows need not be dead.
        "dead_fraction": dead_feature_fraction(train_codes),
        "coherence": mutual_coherence(atoms),
        "mean_coherence": mean_coherence(atoms),
    }
    codes = compact(codes)
    if test.y is not None:
        figures |= _selectivity(codes, test, n_permutations, seed)
    if probe is not None:
        probed = {"codes": (train_codes, codes), "reconstruction": (train_X_hat, X_hat)}
        for name, (fit_on, score_on) in probed.items():
            figures[f"probe_{name}"] = measure_probe(
                probe, train._replace(X=fit_on), test._replace(X=score_on)
            )
    return figures | seconds


def measure_probe(probe: Any, train: Part, test: Part) -> float:
    """Balanced accuracy of a probe that is fitted on one part, on the other part."""
    return balanced_accuracy(test.y, clone(probe).fit(train.X, train.y).predict(test.X))


def decoded_atoms(fitted: Any, codes: Codes) -> np.ndarray:
    """Decode each feature alone, and subtract what the decoder gives for no features.

    For every linear decoder the results are the atoms, under whatever name the
    estimator keeps them: ``components_`` of FastICA are its filters, not its atoms.
    """
    n_components = codes.shape[1]

    def decode(indices: np.ndarray) -> np.ndarray:
        units = sp.csr_matrix(
            (np.ones(len(indices)), (np.arange(len(indices)), indices)),
            shape=(len(indices), n_components),
        )
        return np.asarray(
            fitted.inverse_transform(units if sp.issparse(codes) else units.toarray())
        )

    nothing = sp.csr_matrix((1, n_components))
    origin = np.asarray(
        fitted.inverse_transform(nothing if sp.issparse(codes) else nothing.toarray())
    )
    return np.concatenate(
        [
            decode(np.arange(block.start, block.stop)) - origin
            for block in gen_batches(n_components, _BLOCK_ATOMS)
        ]
    )


def _selectivity(
    codes: Codes, test: Part, n_permutations: int, seed: Seed
) -> dict[str, float]:
    """Mean over classes of the best feature's selectivity, with its null."""
    activity = find_active(codes, 0.0)
    _, labels = encode_classes(test.y, activity.shape[0])
    exchange = exchange_of(test, labels)
    figures: dict[str, float] = {}
    for contrast in ("average", "maximum"):
        if contrast == "maximum" and labels.max() == 1:
            # With two classes both scores are the same.
            figures |= {
                name.replace("average", "maximum"): figure
                for name, figure in figures.items()
            }
            continue
        scores = score_features(activity, labels, np.bincount(labels), contrast)
        observed = scores.max(axis=1).mean()
        figures[f"{contrast}_selectivity"] = float(observed)
        if n_permutations:
            null = null_of_best(
                activity,
                labels,
                contrast,
                exchange=exchange,
                n_permutations=n_permutations,
                random_state=seed,
            ).mean(axis=1)
            figures[f"{contrast}_selectivity_null"] = float(np.quantile(null, 0.95))
            figures[f"{contrast}_selectivity_p"] = float(
                permutation_p_value(null, observed, ROUNDING)
            )
    return figures


def exchange_of(part: Part, labels: np.ndarray) -> Exchange:
    """Decide how labels are exchanged under the null: inside the batches.

    If all rows of a group share their label, as the tokens of an image do, whole groups
    are exchanged, because their rows are not independent. If labels differ inside
    groups and the rows are tokens of a known grid, label maps are shifted.
    """
    batch_ids = np.zeros(len(labels), np.intp)
    if part.params.get("batch") is not None:
        batch_ids = encode(part.params["batch"], "batch")[1]
    if part.groups is not None:
        group_ids = encode(part.groups, "groups")[1]
        if not can_permute(labels, group_ids) and not can_permute(batch_ids, group_ids):
            return Exchange(batch_ids, group_ids)
    if part.grid_shape is not None:
        image_ids = number_images(len(labels), part.grid_shape)
        return Exchange(image_ids, None, part.grid_shape)
    return Exchange(batch_ids)
