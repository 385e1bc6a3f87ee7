"""Files of tensors and of JSON, read without trust.

No file makes a reader allocate more than a few times its own size: the sizes that a
header promises are compared with those of the file before anything is read.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

# Largest JSON: settings and headers of a few tensors have a few thousand bytes.
_MAX_JSON = 2**20
_MAX_DIMENSIONS = 8

# Names of safetensors, and how numpy reads them. numpy has no bfloat16.
_DTYPES: dict[str, np.dtype] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "U8": np.dtype("u1"),
}

_WRITTEN = ("F64", "F32", "I64", "I32", "U8")

Tensors = dict[str, np.ndarray]


@contextmanager
def open_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a regular file, or a link to one, for reading.

    Raises
    ------
    ValueError
        If it is a folder, a device or a pipe.
    FileNotFoundError
        If there is none.
    """
    # Before it is opened, because opening a pipe would wait for a writer.
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError(f"{path} is no regular file.")
    with open(path, "rb") as file:
        yield file


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object."""
    with open_file(path) as file:
        return parse_json(file.read(_MAX_JSON + 1), str(path))


def parse_json(text: bytes, name: str, most: int = _MAX_JSON) -> dict[str, Any]:
    """Parse a JSON object of limited size, each key once."""
    if len(text) > most:
        raise ValueError(f"{name} is larger than {most} bytes of JSON.")
    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} is no JSON: {error}.") from error
    if not isinstance(value, dict):
        raise ValueError(f"{name} holds no JSON object.")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


# safetensors: eight bytes with the length of a JSON header, the header, the numbers.


def read_safetensors(path: Path) -> Tensors:
    """Read all tensors of a file; those of half precision become float32.

    Raises
    ------
    ValueError
        If the header does not describe the file to the last byte.
    """
    return read_described_tensors(path)[0]


def read_described_tensors(
    path: Path, most: int = _MAX_JSON
) -> tuple[Tensors, dict[str, Any]]:
    """Read the tensors of a file, and what its header says besides.

    Parameters
    ----------
    path : Path
        The file.
    most : int
        Largest size of the header.

    Returns
    -------
    tensors : dict of ndarray
        As from :func:`read_safetensors`.
    metadata : dict
        Strings, unless the file is not what it should be.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(8)
        n_header = int.from_bytes(start, "little")
        if len(start) < 8 or n_header > size - 8:
            raise ValueError(f"{path} is cut short, or no safetensors file.")
        if n_header > most:
            raise ValueError(f"{path} has a header of {n_header} bytes.")
        header = parse_json(file.read(n_header), f"The header of {path}", most)
        metadata = header.pop("__metadata__", None)
        begin = 8 + n_header
        places = {name: _place(entry, name, path) for name, entry in header.items()}
        _check_coverage(places, size - begin, path)
        tensors = {}
        for name, (dtype, shape, (first, _)) in places.items():
            file.seek(begin + first)
            n_bytes = math.prod(shape) * _DTYPES[dtype].itemsize
            array = np.frombuffer(file.read(n_bytes), _DTYPES[dtype])
            tensors[name] = _native(array, dtype).reshape(shape)
    return tensors, metadata if isinstance(metadata, dict) else {}


Place = tuple[str, tuple[int, ...], tuple[int, int]]


def _place(entry: Any, name: str, path: Path) -> Place:
    """Dtype, shape and offsets of a tensor, which agree with each other."""
    if not isinstance(entry, dict) or entry.keys() != {
        "dtype",
        "shape",
        "data_offsets",
    }:
        raise ValueError(f"The header of {path} does not describe {name!r}.")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if dtype not in list(_DTYPES):
        raise ValueError(
            f"{name!r} in {path} has the dtype {dtype!r:.20}, not one of "
            f"{', '.join(_DTYPES)}."
        )
    if not (_are_sizes(shape) and len(shape) <= _MAX_DIMENSIONS):
        raise ValueError(f"{name!r} in {path} has the shape {shape!r:.60}.")
    if not (_are_sizes(offsets) and len(offsets) == 2):
        raise ValueError(f"{name!r} in {path} lies at {offsets!r:.60}.")
    begin, end = offsets
    if end - begin != math.prod(shape) * _DTYPES[dtype].itemsize:
        raise ValueError(
            f"{name!r} in {path} has {end - begin} bytes, which do not hold "
            f"{shape!r:.60} numbers of dtype {dtype}."
        )
    return dtype, tuple(shape), (begin, end)


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and all(
        type(value) is int and 0 <= value < 2**63 for value in values
    )


def _check_coverage(places: Mapping[str, Place], n_bytes: int, path: Path) -> None:
    """The tensors lie one behind the other and fill the file."""
    end = 0
    for begin, stop in sorted(offsets for _, _, offsets in places.values()):
        if begin != end:
            raise ValueError(f"The tensors in {path} overlap, or leave gaps.")
        end = stop
    if end != n_bytes:
        raise ValueError(
            f"{path} holds {n_bytes} bytes of tensors, but its header describes {end}."
        )


def _native(array: np.ndarray, dtype: str) -> np.ndarray:
    if dtype == "BF16":  # the upper half of a float32
        return (array.astype(np.uint32) << 16).view(np.float32)
    if dtype == "F16":
        return array.astype(np.float32)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def safetensors_parts(
    tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None
) -> Iterator[bytes]:
    """The bytes of a safetensors file with these tensors.

    They are of float32, float64, int32, int64 or uint8, and the metadata are strings.
    """
    names = {dtype: name for name, dtype in _DTYPES.items() if name in _WRITTEN}
    header: dict[str, Any] = (
        {} if metadata is None else {"__metadata__": dict(metadata)}
    )
    end = 0
    for name, array in tensors.items():
        begin, end = end, end + array.nbytes
        header[name] = {
            "dtype": names[array.dtype.newbyteorder("<")],
            "shape": list(array.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of eight
    yield len(text).to_bytes(8, "little") + text
    for array in tensors.values():
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        yield np.ascontiguousarray(little).tobytes()
