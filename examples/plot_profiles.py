"""
From a screen's two files to features and genes
===============================================

Embeddings of a screen often come in two files: one with a row of numbers for each well,
and one that says what was done to each well. How do they become features, and how do
the features get to scanpy? The files of this page have the layout of RxRx3-core and
OpenPhenom. They are made here from known phenotypes, because the real ones are too
large to come with a package. The :doc:`user guide </user_guide/tables>` has other
layouts.
"""

# %%
# A screen with eight phenotypes
# ------------------------------
# Four experiments have 150 wells each. In 30 wells of each experiment nothing was done.
# In each of the others, one of 16 genes is knocked out. A gene has one of eight
# phenotypes, a direction in the space of the embeddings, so that two genes share each
# phenotype. All wells vary, more in some directions than in others, and the controls
# vary as much as the rest.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import scanpy as sc
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer

from skdict import ICFL, ControlPCAWhitener
from skdict.datasets import make_planted_dictionary
from skdict.io import read_profiles, to_anndata
from skdict.metrics import selectivity_report
from skdict.report import FeatureReport

rng = np.random.default_rng(0)
n_wells, n_features, n_phenotypes = 600, 96, 8
background = make_planted_dictionary(
    n_wells, n_features, n_components=24, n_active=8, noise=1.0, random_state=0
)
phenotypes = rng.standard_normal((n_phenotypes, n_features))
phenotypes /= np.linalg.norm(phenotypes, axis=1, keepdims=True)

experiment = np.repeat([f"HUVEC-{i:03d}" for i in range(1, 5)], n_wells // 4)
gene = np.array([f"GENE{i:02d}" for i in range(16)])[np.arange(n_wells) % 16]
is_control = np.arange(n_wells) % 5 == 0
strength = rng.uniform(0.8, 2.5, n_wells) * ~is_control
phenotype = np.arange(n_wells) % 16 % n_phenotypes
embeddings = 20 + background.data + strength[:, None] * phenotypes[phenotype]

# %%
# Two files
# ---------
# The embeddings go to a parquet file, and what is known about the wells to a CSV file,
# in another order. The columns of the embeddings are in alphabetical order, in which
# ``feature_10`` stands before ``feature_2``.

folder = tempfile.TemporaryDirectory()
wells = [f"{e}_{i % 150:03d}" for i, e in enumerate(experiment)]
rows = pd.DataFrame(embeddings, columns=[f"feature_{j}" for j in range(n_features)])
rows = rows[sorted(rows.columns)].astype(np.float32)
rows.insert(0, "well_id", wells)
rows.to_parquet(Path(folder.name, "embeddings.parquet"))

known = pd.DataFrame(
    {
        "well_id": wells,
        "experiment_name": experiment,
        "gene": np.where(is_control, None, gene),
        "treatment": np.where(is_control, "EMPTY_control", np.char.add(gene, "_guide")),
        "perturbation_type": "CRISPR",
    }
)
known.sample(frac=1, random_state=0).to_csv(
    Path(folder.name, "metadata.csv"), index=False
)

# %%
# :func:`skdict.io.read_profiles` joins them on the column that both have, and puts the
# features into their natural order. A rule says which wells are controls.

profiles = read_profiles(
    Path(folder.name, "embeddings.parquet"),
    metadata=Path(folder.name, "metadata.csv"),
    control={"treatment": "EMPTY_control"},
)
X, metadata, control, names = profiles
print(f"{X.shape[0]} wells, {X.shape[1]} features: {names[0]} to {names[-1]}")
print(f"{control.sum()} controls")

# %%
# Codes
# -----
# The controls say what varies by itself. After whitening, no direction varies more than
# another among the controls, so that what the genes do stands out. There is little more
# than one control for each dimension, so the covariance needs shrinkage.

pipe = make_pipeline(
    ControlPCAWhitener(shrinkage="auto"), Normalizer(), ICFL(32, 2, random_state=0)
)
pipe.fit(X, controlpcawhitener__control=control)
codes = pipe.transform(X)

label = metadata["gene"].where(~control, "control").to_numpy()
report = selectivity_report(
    codes, label, control=control, n_permutations=100, random_state=0
)
columns = ["class", "n_samples", "best_feature", "score", "null_q95", "p_value"]
print(report[columns].round(3).to_string(index=False))

# %%
# The two genes of a phenotype, such as GENE00 and GENE08, have the same best feature:
# the dictionary has found the phenotype without knowing the genes.

best = report.set_index("class")["best_feature"]
pairs = [(f"GENE{i:02d}", f"GENE{i + n_phenotypes:02d}") for i in range(n_phenotypes)]
shared = sum(best[one] == best[other] for one, other in pairs)
print(f"{shared} of {n_phenotypes} pairs of genes share their best feature")

# %%
# To scanpy
# ---------
# :func:`skdict.io.to_anndata` makes an AnnData object whose variables are the features.
# The atoms and all parameters are in ``uns``, so that a file tells where its codes come
# from.

adata = to_anndata(codes, metadata, estimator=pipe)
adata.obs["label"] = pd.Categorical(label)
adata.write_h5ad(Path(folder.name, "codes.h5ad"))
adata = sc.read_h5ad(Path(folder.name, "codes.h5ad"))
print(adata)
about = adata.uns["skdict"]["X_icfl"]
print(about["estimator"], about["components"].shape)
print(about["steps"])

# %%
# scanpy tests every feature in each gene against the controls. The first one of a gene
# is the one with the highest selectivity.

sc.tl.rank_genes_groups(adata, "label", reference="control", method="wilcoxon")
ranked = sc.get.rank_genes_groups_df(adata, None)
first = ranked.groupby("group", observed=True).first()["names"]
agree = sum(first[g] == f"icfl{best[g]}" for g in first.index)
print(f"{agree} of {len(first)} genes: scanpy and selectivity name the same feature")

plt.rcParams.update({"font.size": 8, "figure.dpi": 200})
order = sorted(first.index, key=lambda g: (int(g[4:]) % n_phenotypes, g))
shown = list(dict.fromkeys(first[order]))
active = pd.DataFrame(
    (adata[:, shown].X.toarray() != 0), columns=shown, index=adata.obs["label"]
)
fractions = active.groupby(level=0, observed=True).mean().loc[[*order, "control"]]
figure, ax = plt.subplots(figsize=(3.6, 3.4), layout="constrained")
image = ax.imshow(fractions, cmap="Blues", vmin=0, vmax=1, aspect="auto")
ax.set_xticks(range(len(shown)), shown, rotation=90)
ax.set_yticks(range(len(fractions)), fractions.index)
figure.colorbar(image, label="fraction of wells in which it is active")
plt.show()

# %%
# All features on one page
# ------------------------
# The same arrays make the :class:`skdict.report.FeatureReport`. Its table says for each
# feature which label it responds to and whether it follows the experiment.

page = FeatureReport(
    pipe,
    X,
    label,
    metadata=metadata[["experiment_name"]],
    control=control,
    n_permutations=100,
)
table = page.to_frame()
shown = ["feature", "density", "best_label", "score", "null", "follows_experiment_name"]
print(table.nlargest(8, "score")[shown].round(3).to_string(index=False))
page.to_html(Path(folder.name, "features.html"))
folder.cleanup()

# %%
# What to remember
# ----------------
# - Rows are joined by the names of the wells and columns are sorted by their names, so
#   neither file has to be in any order.
# - The rule for controls is written down in one place, and a rule that finds no
#   controls is an error.
# - Codes of the same rows can go to ``obsm`` of an AnnData object that you have:
#   ``to_anndata(codes, estimator=pipe, adata=adata)``.
