"""What could make ICFL encode faster, each idea beside the plain Gram form.

- several blocks of rows in flight, one a thread, each with one thread of torch. The
  number of threads is set for the whole process, which the library never does;
- the loop of `skdict.ops.compiled` (numba);
- the same update of the correlations compiled by torch (`torch.compile`);
- the rows of the Gram matrix in half precision, for the selection alone: how many of
  the atoms stay the same, and what an update of the correlations gains from reading
  half the bytes. The coefficients come from float32;
- atoms that need no update any more, because their correlation cannot reach the
  largest ones: at most by `||r(s) - r(t)||` can it have grown from step s to step t.

Needs numba and, for `torch.compile`, a C++ compiler. Both are left out where they are
missing. Not part of `run`.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from _cases import planted
from _timing import Report, arguments, by_turns, ratio
from torch import Tensor

from skdict.ops import SlotCode
from skdict.ops.chunks import rows_per_chunk
from skdict.ops.largest import largest
from skdict.ops.least_squares import solve_normal_equations
from skdict.ops.pursuit import batched_omp, gram_matrix, step_sizes

L = 5


def main() -> None:
    args = arguments(__doc__, rows={"type": int, "default": 8192})
    n, d, m, k = (1024, 64, 4096, 10) if args.quick else (args.rows, 1024, 8192, 100)
    report = Report(f"ideas for encoding {n} rows, d={d}, M={m}, k={k}, L={L}", args)
    X, atoms = planted(n, d, m, k)
    x, w = torch.from_numpy(X), torch.from_numpy(atoms)
    gram = gram_matrix(w)

    def encode(rows: Tensor, form: str = "gram") -> SlotCode:
        return batched_omp(rows, w, k, gram=gram, atoms_per_step=L, form=form)

    plain = encode(x)
    functions = {"plain": lambda: encode(x)}
    n_threads, chunk = torch.get_num_threads(), rows_per_chunk(x, m)

    def in_flight(rows: int) -> SlotCode:
        one = {"initializer": torch.set_num_threads, "initargs": (1,)}
        with ThreadPoolExecutor(n_threads, **one) as threads:
            codes = list(threads.map(encode, x.split(rows)))
        torch.set_num_threads(n_threads)
        return SlotCode(
            torch.cat([code.indices for code in codes]),
            torch.cat([code.values for code in codes]),
        )

    for rows in (chunk, chunk // n_threads):
        name = f"{n_threads} blocks of {rows} rows in flight"
        functions[name] = lambda rows=rows: in_flight(rows)
        agreement(report, name, plain, in_flight(rows), x, w)
    try:
        start = time.perf_counter()
        code = encode(x, "compiled")
        report.note(f"compiled (numba): first call {time.perf_counter() - start:.1f} s")
        agreement(report, "compiled (numba)", plain, code, x, w)
        functions["compiled (numba)"] = lambda: encode(x, "compiled")
    except ImportError as error:
        report.not_measured("plain over compiled (numba)", str(error))
    try:
        update = torch.compile(update_and_maxima, dynamic=False)
        start = time.perf_counter()
        code = pursue(x, w, gram, k, update)
        report.note(f"torch.compile: first call {time.perf_counter() - start:.1f} s")
        agreement(report, "torch.compile", plain, code, x, w)
        functions["torch.compile"] = lambda: pursue(x, w, gram, k, update)
    except Exception as error:
        report.not_measured("plain over torch.compile", type(error).__name__)

    seconds = by_turns(functions, args.repeats)
    report.seconds(seconds)
    for name, values in seconds.items():
        if name != "plain":
            report.target(f"plain over {name}", ratio(seconds["plain"], values))

    half_precision(report, x, w, gram, k, args.repeats)
    bound(report, x[:512], w, gram, k)


def agreement(
    report: Report, name: str, plain: SlotCode, other: SlotCode, x: Tensor, w: Tensor
) -> None:
    """Print whether two codes are the same."""
    m = len(w)
    same_bits = same_atoms = active = 0
    for start in range(0, len(x), 1024):
        rows = slice(start, start + 1024)
        a = SlotCode(plain.indices[rows], plain.values[rows]).to_dense(m)
        b = SlotCode(other.indices[rows], other.values[rows]).to_dense(m)
        same_bits += int((a == b).all(1).sum())
        same_atoms += int(((a != 0) & (b != 0)).sum())
        active += int((a != 0).sum())
    left = [float((x - code.decode(w)).norm() / x.norm()) for code in (plain, other)]
    report.note(
        f"{name}: {same_bits / len(x):.2%} of the rows equal to the bit, "
        f"{same_atoms / active:.4%} of the atoms shared, relative residual "
        f"{left[1]:.5f} (plain {left[0]:.5f})"
    )


def update_and_maxima(
    c: Tensor, gram: Tensor, support: Tensor, z: Tensor
) -> tuple[Tensor, Tensor]:
    """``c - G z`` and the largest entry of each of 512 groups of columns."""
    for s in range(L):
        c = c - z[:, s, None] * gram[support[:, s]]
    return c, c.unflatten(1, (-1, 512)).amax(1)


def pursue(x: Tensor, w: Tensor, gram: Tensor, k: int, update) -> SlotCode:
    """Algorithm 1 with the update and the maxima in one function."""
    indices, values = [], []
    for rows in x.split(rows_per_chunk(x, len(w))):
        c, picked, coefficients = rows @ w.T, [], []
        maxima = c.unflatten(1, (-1, 512)).amax(1)
        for n_picked in step_sizes(k, L):
            groups = maxima.topk(n_picked, dim=1, sorted=False).indices
            columns = groups[:, :, None] + 512 * torch.arange(len(w) // 512)
            columns = columns.flatten(1)
            best = c.gather(1, columns).topk(n_picked, dim=1, sorted=False)
            support = columns.gather(1, best.indices)
            place = support[:, :, None] * len(w) + support[:, None, :]
            z = solve_normal_equations(gram.view(-1).take(place), best.values)
            picked.append(support)
            coefficients.append(z)
            if len(picked) * L < k:
                c, maxima = update(c, gram, support, z)
        code = SlotCode(torch.cat(picked, 1), torch.cat(coefficients, 1)).coalesce()
        indices.append(code.indices)
        values.append(code.values)
    return SlotCode(torch.cat(indices), torch.cat(values))


def half_precision(
    report: Report, x: Tensor, w: Tensor, gram: Tensor, k: int, repeats: int
) -> None:
    """Selection by correlations that were updated with a rounded Gram matrix."""
    m, some = len(w), x[:512]
    exact = batched_omp(some, w, k, gram=gram, atoms_per_step=L, form="gram")
    exact_active = exact.to_dense(m) != 0
    for dtype in (torch.bfloat16, torch.float16):
        rounded = gram.to(dtype).to(gram.dtype)
        c = some @ w.T
        right, total = c.clone(), torch.zeros_like(c)
        for n_picked in step_sizes(k, L):
            support = largest(c, n_picked)
            place = support[:, :, None] * m + support[:, None, :]
            z = solve_normal_equations(
                gram.view(-1).take(place), right.gather(1, support)
            )
            step = torch.zeros_like(c).scatter_(1, support, z)
            c, right, total = c - step @ rounded, right - step @ gram, total + step
        shared = float((exact_active & (total != 0)).sum() / exact_active.sum())
        report.note(f"selection by {dtype}: {shared:.3%} of the atoms are the same")
    try:
        import numba
    except ImportError as error:
        report.not_measured("float32 over bfloat16, one update", str(error))
        return

    @numba.njit(error_model="numpy")
    def in_float32(c, gram, support, z):
        for i in range(len(c)):
            row, s = c[i], support[i]
            s0, s1, s2, s3, s4 = s[0], s[1], s[2], s[3], s[4]
            z0, z1, z2, z3, z4 = z[i, 0], z[i, 1], z[i, 2], z[i, 3], z[i, 4]
            g0, g1, g2, g3, g4 = gram[s0], gram[s1], gram[s2], gram[s3], gram[s4]
            for j in range(len(row)):
                v = row[j] - z0 * g0[j] - z1 * g1[j] - z2 * g2[j]
                row[j] = v - z3 * g3[j] - z4 * g4[j]

    @numba.njit
    def lower(word):
        return np.uint32(word << np.uint32(16)).view(np.float32)

    @numba.njit
    def upper(word):
        return np.uint32(word & np.uint32(0xFFFF0000)).view(np.float32)

    # A word has the columns j and j + m / 2 of a row.
    @numba.njit(error_model="numpy")
    def in_bfloat16(c, gram, support, z):
        half = gram.shape[1]
        for i in range(len(c)):
            left, right, s = c[i, :half], c[i, half:], support[i]
            s0, s1, s2, s3, s4 = s[0], s[1], s[2], s[3], s[4]
            z0, z1, z2, z3, z4 = z[i, 0], z[i, 1], z[i, 2], z[i, 3], z[i, 4]
            g0, g1, g2, g3, g4 = gram[s0], gram[s1], gram[s2], gram[s3], gram[s4]
            for j in range(half):
                v = left[j] - z0 * lower(g0[j]) - z1 * lower(g1[j])
                v = v - z2 * lower(g2[j]) - z3 * lower(g3[j]) - z4 * lower(g4[j])
                left[j] = v
                v = right[j] - z0 * upper(g0[j]) - z1 * upper(g1[j])
                v = v - z2 * upper(g2[j]) - z3 * upper(g3[j]) - z4 * upper(g4[j])
                right[j] = v

    bits = gram.bfloat16().view(torch.int16).numpy().view(np.uint16).astype(np.uint32)
    words = bits[:, : m // 2] | (bits[:, m // 2 :] << np.uint32(16))
    rng = np.random.default_rng(0)
    c = np.zeros((len(some), m), np.float32)
    support = rng.integers(0, m, (len(some), 5))
    z = rng.standard_normal((len(some), 5), dtype=np.float32)
    functions = {
        "one update, float32": lambda: in_float32(c, gram.numpy(), support, z),
        "one update, bfloat16": lambda: in_bfloat16(c, words, support, z),
    }
    seconds = by_turns(functions, repeats)
    report.seconds(seconds)
    report.target("float32 over bfloat16, one update", ratio(*seconds.values()))


def bound(report: Report, x: Tensor, w: Tensor, gram: Tensor, k: int) -> None:
    """How many atoms cannot be among the largest any more."""
    m = len(w)
    c, r = x @ w.T, x
    steps = []
    for n_picked in step_sizes(k, L):
        support = largest(c, n_picked)
        b = c.gather(1, support)
        place = support[:, :, None] * m + support[:, None, :]
        z = solve_normal_equations(gram.view(-1).take(place), b)
        steps.append((c, r, b.amin(1)))
        step = torch.zeros_like(c).scatter_(1, support, z)
        c, r = c - step @ gram, r - step @ w
    lines = []
    for first in {0, len(steps) // 2}:
        known, then, _ = steps[first]
        out = [
            float(
                (known + (then - later).norm(dim=1, keepdim=True) < least[:, None])
                .float()
                .mean()
            )
            for _, later, least in steps[first + 1 :]
        ]
        lines.append(
            f"known at step {first}: {out[0]:.2%} of the atoms need no update in the "
            f"next step, {out[-1]:.2%} in the last"
        )
    report.note("exact bound; " + "; ".join(lines))


if __name__ == "__main__":
    main()
