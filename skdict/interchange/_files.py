"""Files of tensors, read without trust: nothing in them is run or believed unchecked.

No file makes a reader allocate more than a few times its own size: the sizes that a
header promises are compared with those of the file before anything is read.
"""

from __future__ import annotations

import io
import json
import math
import os
import pickle
import pickletools
import re
import stat
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

# Largest JSON: settings and headers of a few tensors have a few thousand bytes.
_MAX_JSON = 2**20
# Largest description of the tensors in a file of torch.save.
_MAX_PICKLE = 2**20
_MAX_DIMENSIONS = 8

# What the pickle in a file of torch.save may name. weights_only=True keeps code from
# being run, but allows more: bytearray(10**12) would fill the memory.
_NAMED = re.compile(
    r"collections OrderedDict|torch \w+Storage"
    r"|torch\._utils (_rebuild_tensor_v2|_rebuild_parameter)"
)
_BY_NAME = ("GLOBAL", "INST", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4")
_WHAT_TO_DO = (
    "load it in its own library, and write torch.save(model.state_dict(), path)"
)

# Names of safetensors, and how numpy reads them. numpy has no bfloat16.
_DTYPES: dict[str, np.dtype] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
}

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


def parse_json(text: bytes, name: str) -> dict[str, Any]:
    """Parse a JSON object of limited size, each key once."""
    if len(text) > _MAX_JSON:
        raise ValueError(f"{name} is larger than {_MAX_JSON} bytes of JSON.")
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
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(8)
        n_header = int.from_bytes(start, "little")
        if len(start) < 8 or n_header > size - 8:
            raise ValueError(f"{path} is cut short, or no safetensors file.")
        if n_header > _MAX_JSON:
            raise ValueError(f"{path} has a header of {n_header} bytes.")
        header = parse_json(file.read(n_header), f"The header of {path}")
        header.pop("__metadata__", None)
        begin = 8 + n_header
        places = {name: _place(entry, name, path) for name, entry in header.items()}
        _check_coverage(places, size - begin, path)
        tensors = {}
        for name, (dtype, shape, (first, _)) in places.items():
            file.seek(begin + first)
            n_bytes = math.prod(shape) * _DTYPES[dtype].itemsize
            array = np.frombuffer(file.read(n_bytes), _DTYPES[dtype])
            tensors[name] = _native(array, dtype).reshape(shape)
    return tensors


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


def safetensors_parts(tensors: Mapping[str, np.ndarray]) -> Iterator[bytes]:
    """The bytes of a safetensors file with these tensors of float32 or float64."""
    names = {np.dtype(np.float32): "F32", np.dtype(np.float64): "F64"}
    header, end = {}, 0
    for name, array in tensors.items():
        begin, end = end, end + array.nbytes
        header[name] = {
            "dtype": names[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of eight
    yield len(text).to_bytes(8, "little") + text
    for array in tensors.values():
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        yield np.ascontiguousarray(little).tobytes()


# torch.save: a zip file of the tensors' bytes and of a pickle that says where they lie.


def read_torch(path: Path) -> Tensors:
    """Read the state dict in a file of ``torch.save``."""
    with open_file(path) as file:
        return state_dict(file, path)


def state_dict(file: IO[bytes], path: Path) -> Tensors:
    """Tensors by name, from a file that begins with what ``torch.save`` wrote.

    Raises
    ------
    ValueError
        If the file holds anything else than tensors by name: a pickle can run code.
    """
    start = file.read(4)
    if start[:1] == b"\x80":
        raise ValueError(
            f"{path} is a pickle and no file that torch.save writes today. Reading it "
            f"can run code: {_WHAT_TO_DO}."
        )
    if start != b"PK\x03\x04":
        raise ValueError("It is no file that torch.save writes.")
    file.seek(0)
    try:
        stored = _check_zip(file)
        file.seek(0)
        value = torch.load(file, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} holds more than dense tensors, and reading Python objects can run "
            f"code: {_WHAT_TO_DO}."
        ) from error
    # A damaged file can fail anywhere in torch.
    except Exception as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise ValueError(f"{path} cannot be read: {reason}.") from error
    if not isinstance(value, dict) or not all(
        isinstance(name, str) and type(tensor) in (torch.Tensor, torch.nn.Parameter)
        for name, tensor in value.items()
    ):
        raise ValueError(f"{path} does not hold tensors by name.")
    _check_storages(value, stored, path)
    return {name: _as_array(tensor, name, path) for name, tensor in value.items()}


def _check_zip(file: IO[bytes]) -> int:
    """Number of bytes stored, after a check that nothing is compressed."""
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if any(member.filename == "schema.json" for member in members):
            raise ValueError("skdict.save wrote it: use skdict.load")
        if any(m.compress_type != zipfile.ZIP_STORED for m in members):
            raise ValueError("it is compressed")
        if any(m.compress_size != m.file_size for m in members):
            raise ValueError("a member has two sizes")
        # torch looks for names without regard to case.
        if len({m.filename.lower() for m in members}) != len(members):
            raise ValueError("two members have one name")
        stored = sum(m.file_size for m in members)
        if stored > file.seek(0, io.SEEK_END):
            raise ValueError("its members overlap")
        for member in members:
            name = member.filename.lower()
            if name.endswith("/data.pkl"):
                if member.file_size > _MAX_PICKLE:
                    raise ValueError("it describes too many tensors")
                _check_names(archive.read(member))
            if name.endswith("/byteorder"):
                order = archive.read(member).decode("ascii")
                if order != sys.byteorder:
                    raise ValueError(f"its numbers are {order}-endian")
    return stored


def _check_names(content: bytes) -> None:
    """Raise an UnpicklingError if a pickle names anything but dense tensors."""
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name in _BY_NAME and not _NAMED.fullmatch(str(argument)):
            raise pickle.UnpicklingError(f"{opcode.name} {argument}")


def _check_storages(tensors: dict[str, torch.Tensor], stored: int, path: Path) -> None:
    """No tensor claims more numbers than the file has."""
    storages = {}
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.device.type != "cpu":
            raise ValueError(f"{name!r} in {path} is no dense tensor.")
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        if tensor.numel() * tensor.element_size() > storage.nbytes():
            raise ValueError(f"{name!r} in {path} repeats its numbers.")
    if sum(storages.values()) > stored:
        raise ValueError(f"The tensors in {path} are larger than the file.")


def _as_array(tensor: torch.Tensor, name: str, path: Path) -> np.ndarray:
    tensor = tensor.detach()
    if tensor.dtype in (torch.float16, torch.bfloat16):
        tensor = tensor.float()
    if tensor.dtype not in (torch.float32, torch.float64, torch.int32, torch.int64):
        raise ValueError(f"{name!r} in {path} has the dtype {tensor.dtype}.")
    return tensor.numpy()
