"""Are the q-values of a FeatureReport right if tokens share their image's label?

324 images of solar cells, all 18 x 18 tokens of each, whitened with the controls;
`ICFL` with 640 atoms. The images' labels are permuted 60 times, so that no feature
depends on them. The script prints three things: for some levels, the fraction of pairs
of feature and label with a p-value up to the level, which should equal the level; the
number of permutations in which any feature counts as selective (q up to 5 %); and the
number of features that do if tokens are treated as independent, with
`describe_features`.

Run: python benchmarks/report_null.py
"""

import numpy as np
import pandas as pd
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer

from skdict import ICFL, ControlPCAWhitener
from skdict.datasets import load_elpv_tokens
from skdict.metrics import describe_features
from skdict.stats import choose_exchange, find_active, run_label_tests

N_PERMUTATIONS = 60
LEVELS = [0.05, 0.01, 0.001, 0.0001]


def main():
    data = load_elpv_tokens(None, n_images=324, return_images=True)
    pipe = make_pipeline(
        ControlPCAWhitener(),
        Normalizer(),
        ICFL(640, 8, max_iter=3, random_state=0, device="cpu"),
    )
    pipe.fit(data.data, controlpcawhitener__control=data.control)
    codes = pipe.transform(data.data)
    first, image_of = np.unique(data.groups, return_index=True, return_inverse=True)[1:]
    names, labels = data.target_names, data.target[first]
    activity = find_active(codes, 0.0)
    rng = np.random.default_rng(0)

    fractions, n_selective, n_naive = [], [], []
    for i in range(N_PERMUTATIONS):
        y = rng.permutation(labels)[image_of]
        tests = run_label_tests(activity, y, choose_exchange(y, [image_of]))
        fractions.append([(tests.p_values <= level).mean(axis=1) for level in LEVELS])
        n_selective.append((tests.q_values <= 0.05).any(axis=0).sum())
        if i < 5:
            naive = describe_features(codes, y)
            n_naive.append((naive["q_value"] <= 0.05).sum())
    table = pd.DataFrame(
        np.mean(fractions, axis=0), [f"p <= {level}" for level in LEVELS], names
    )
    print("Fraction of the pairs, images exchanged; the level is expected:")
    print(table.round(5).to_string())
    print(
        f"\nPermutations with any selective feature: {np.count_nonzero(n_selective)} "
        f"of {N_PERMUTATIONS}; at most {max(n_selective)} features."
    )
    print(
        f"With tokens as independent: {min(n_naive)} to {max(n_naive)} of 640 features."
    )


if __name__ == "__main__":
    main()
