"""Are heatmaps smooth, and tied to regions of an image, by chance?

The data are the tokens of a tissue image, whitened with the stroma tokens as controls,
rows of unit length; `ICFL` with its defaults is fitted on the left half. The first
table is Moran's I of the cosines with every atom, and with as many random directions.
The second is the fraction of heatmaps with p < 0.05 for each region of the image (DAB+,
blank, stroma), by the Mann-Whitney U test and by toroidal shifts. 5 % are expected for
smooth noise, which has nothing to do with the image. Beside it are the cosines with
random directions of the embedding.

Run: python benchmarks/heatmap_nulls.py
"""

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer

from skdict import ICFL, ControlPCAWhitener
from skdict.datasets import load_tissue_tokens
from skdict.images import heatmap_by_region, morans_i
from skdict.metrics import direction_cosines

N_HEATMAPS = 500


def morans(heatmaps):
    return [morans_i(heatmap, n_permutations=0).statistic for heatmap in heatmaps]


def fractions_below(heatmaps, mask):
    """Fraction of the heatmaps with p < 0.05, by region, for both tests."""
    tables = pd.concat([heatmap_by_region(heatmap, mask) for heatmap in heatmaps])
    tests = tables.set_index("region")[["p_mannwhitney", "p_shift"]]
    return (tests < 0.05).groupby("region").mean()


def main():
    data = load_tissue_tokens()
    rng = np.random.default_rng(0)
    left = data.columns < 32
    prepare = make_pipeline(ControlPCAWhitener(control_label="stroma"), Normalizer())
    prepare.fit(data.data[left], data.target_names[data.target[left]])
    rows = prepare.transform(data.data)
    atoms = ICFL(random_state=0, device="cpu").fit(rows[left]).components_

    def heatmaps(directions):
        return direction_cosines(rows, directions).T.reshape(-1, *data.grid_shape)

    random = heatmaps(rng.normal(size=atoms.shape))
    quantiles = pd.DataFrame(
        {"atoms": morans(heatmaps(atoms)), "random": morans(random)}
    )
    shuffled = morans_i(random[0], random_state=0).null
    print("Moran's I, quantiles over", len(atoms), "directions:")
    print(quantiles.quantile([0.05, 0.5, 0.95]).round(3).T.to_string())
    print(f"shuffled tokens, 95 %: {np.quantile(shuffled, 0.95):.3f}\n")

    noise = rng.normal(size=(N_HEATMAPS, *data.grid_shape))
    mask = data.target_names[data.target].reshape(data.grid_shape)
    cases = {
        "smooth noise": gaussian_filter(noise, (0, 4, 4)),
        "random directions": random[:N_HEATMAPS],
    }
    fractions = {name: fractions_below(maps, mask) for name, maps in cases.items()}
    print(f"Fraction of {N_HEATMAPS} heatmaps with p < 0.05:")
    print(pd.concat(fractions).round(3).to_string())


if __name__ == "__main__":
    main()
