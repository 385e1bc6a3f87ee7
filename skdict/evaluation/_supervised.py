"""A dictionary made of known attributes of the rows."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import scipy.sparse as sp
from sklearn.exceptions import NotFittedError

from skdict._utils.checks import check_finite, check_numbers
from skdict._utils.labels import as_labels, kind_of
from skdict._utils.sklearn_private import StrOptions, validate_parameter_constraints
from skdict._utils.types import AnyArray, Data
from skdict.stats import named_columns

# Of the largest eigenvalue: those below are zero but for rounding.
_ROUNDING = 1e-10


class SupervisedDictionary:
    r"""One atom for each value of each known attribute of the rows.

    It rebuilds a row from its attributes alone, and is the yardstick for dictionaries
    that have not seen them: :func:`compare_with_supervised`.

    Parameters
    ----------
    estimate : {"mean", "least_squares"}, default="mean"
        How the atoms are found:

        - "mean": the mean of the rows with this value, minus the mean of all rows.
          Where attributes go together, their atoms overlap, and a sum of them goes
          too far.
        - "least_squares": the atoms that rebuild the rows best together.

    Attributes
    ----------
    components_ : ndarray of shape (n_values, n_features)
        The atoms, of which each attribute has one for each of its values.
    mean_ : ndarray of shape (n_features,)
        Mean of all rows.
    attributes_ : list of str
        Attribute of each atom.
    values_ : list
        Value of the attribute of each atom.

    See Also
    --------
    compare_with_supervised : Compares dictionaries with it.

    Notes
    -----
    With the value :math:`a_i(x)` of the attribute :math:`i` of a row [1]_,

    .. math::

        \hat x = \mathrm{E}[x] + \sum_i u_{i, a_i(x)}, \qquad
        u_{iv} = \mathrm{E}[x \mid a_i(x) = v] - \mathrm{E}[x].

    For independent attributes both estimates are the same but for chance. A value that
    was not there in `fit` has no atom: such rows are rebuilt without this attribute.

    References
    ----------
    .. [1] A. Makelov, G. Lange, N. Nanda. "Towards principled evaluations of sparse
       autoencoders for interpretability and control." 2024. arXiv:2405.08366.

    Examples
    --------
    >>> import numpy as np
    >>> from skdict.evaluation import SupervisedDictionary
    >>> X = np.array([[1.0, 0.0], [1.0, 2.0], [3.0, 0.0], [3.0, 2.0]])
    >>> attributes = {"size": ["small", "small", "large", "large"], "red": [0, 1, 0, 1]}
    >>> dictionary = SupervisedDictionary().fit(X, attributes)
    >>> dictionary.values_
    ['large', 'small', 0, 1]
    >>> dictionary.components_
    array([[ 1.,  0.],
           [-1.,  0.],
           [ 0., -1.],
           [ 0.,  1.]])
    >>> codes = dictionary.transform({"size": ["large"], "red": [0]})
    >>> dictionary.inverse_transform(codes)
    array([[3., 0.]])
    """

    components_: np.ndarray
    mean_: np.ndarray
    attributes_: list[str]
    values_: list[Any]

    def __init__(self, *, estimate: str = "mean") -> None:
        self.estimate = estimate

    def fit(self, X: Data, attributes: Data) -> Self:
        """Make the atoms.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.
        attributes : dict of array-like of shape (n_samples,) or DataFrame
            The name of each attribute and its values in the rows.

        Returns
        -------
        self : SupervisedDictionary
            The object itself.

        Raises
        ------
        ValueError
            If `X` holds NaN or infinity, or if an attribute has missing values or
            another length.
        """
        validate_parameter_constraints(
            {"estimate": [StrOptions({"mean", "least_squares"})]},
            {"estimate": self.estimate},
            caller_name=type(self).__name__,
        )
        X = check_numbers(X, ensure_all_finite=False, input_name="X")
        check_finite(X, "X")
        X = np.asarray(X, dtype=np.float64)
        columns = check_attributes(attributes, len(X))
        self._known = {name: np.unique(column) for name, column in columns.items()}
        self.attributes_ = [n for n, known in self._known.items() for _ in known]
        self.values_ = [v for known in self._known.values() for v in known.tolist()]
        self.mean_ = X.mean(axis=0)
        codes = self._encode(columns)
        sizes = np.asarray(codes.sum(axis=0)).ravel()
        sums = codes.T @ (X - self.mean_)
        if self.estimate == "mean":
            self.components_ = sums / sizes[:, None]
        else:
            self.components_ = self._solve(codes, sizes, sums)
        return self

    def transform(self, attributes: Data) -> sp.csr_matrix:
        """Encode attributes: a one at the value of each attribute.

        Parameters
        ----------
        attributes : dict of array-like of shape (n_samples,) or DataFrame
            The attributes of :meth:`fit`, of any rows. Others are not used.

        Returns
        -------
        codes : CSR matrix of shape (n_samples, n_values)
            With as many ones in a row as there are attributes, but for values that
            were not there in :meth:`fit`.
        """
        self._check_fitted()
        columns = check_attributes(attributes)
        lacking = [name for name in self._known if name not in columns]
        if lacking:
            raise ValueError(
                f"attributes lacks {lacking}, of which the dictionary has atoms."
            )
        return self._encode(columns)

    def inverse_transform(self, codes: AnyArray) -> np.ndarray:
        """Rebuild rows from codes.

        Parameters
        ----------
        codes : {array-like, CSR matrix} of shape (n_samples, n_values)
            Codes.

        Returns
        -------
        X_hat : ndarray of shape (n_samples, n_features)
            The reconstruction.
        """
        self._check_fitted()
        return np.asarray(codes @ self.components_ + self.mean_)

    def atoms_of(self, attribute: str) -> np.ndarray:
        """Indices of the atoms of an attribute, in the order of its values."""
        self._check_fitted()
        if attribute not in self._known:
            raise ValueError(
                f"There is no attribute {attribute!r}; there are {[*self._known]}."
            )
        return np.array([i for i, n in enumerate(self.attributes_) if n == attribute])

    def _check_fitted(self) -> None:
        if not hasattr(self, "_known"):
            raise NotFittedError(
                f"This {type(self).__name__} is not fitted yet: call fit first."
            )

    def _encode(self, columns: dict[str, np.ndarray]) -> sp.csr_matrix:
        n_samples = len(next(iter(columns.values())))
        rows, places = [], []
        for name, known in self._known.items():
            column = columns[name]
            if kind_of(column) != kind_of(known):
                raise ValueError(
                    f"Attribute {name} holds {kind_of(column)}, and in fit it held "
                    f"{kind_of(known)}."
                )
            found = np.searchsorted(known, column).clip(max=len(known) - 1)
            same = known[found] == column
            rows.append(np.flatnonzero(same))
            places.append(self.atoms_of(name)[found[same]])
        at = (np.concatenate(rows), np.concatenate(places))
        ones = np.ones(len(at[0]))
        shape = (n_samples, len(self.values_))
        return sp.coo_matrix((ones, at), shape=shape).tocsr()

    def _solve(
        self, codes: sp.csr_matrix, sizes: np.ndarray, sums: np.ndarray
    ) -> np.ndarray:
        """Least squares; of all solutions, that in which each attribute has mean 0."""
        gram = (codes.T @ codes).toarray()
        values, vectors = np.linalg.eigh(gram)
        kept = values > _ROUNDING * values[-1]
        vectors = vectors[:, kept]
        components = vectors @ ((vectors.T @ sums) / values[kept][:, None])
        for name in self._known:
            atoms = self.atoms_of(name)
            weights = sizes[atoms] / sizes[atoms].sum()
            components[atoms] -= weights @ components[atoms]
        return components


def check_attributes(
    attributes: Data, n_samples: int | None = None
) -> dict[str, np.ndarray]:
    """Turn a table of attributes into columns of labels of one length."""
    named = named_columns(attributes, "attributes")
    if not named:
        raise ValueError("attributes is empty: name at least one attribute.")
    columns = {}
    for name, column in named.items():
        columns[name] = as_labels(column, f"attribute {name}", n_samples)
        n_samples = len(columns[name])
    return columns
