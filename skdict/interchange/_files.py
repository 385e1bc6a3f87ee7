"""Files of ``torch.save``, read without trust: nothing in them is run or believed.

No file makes a reader allocate more than a few times its own size.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
import sys
import zipfile
from pathlib import Path
from typing import IO

import numpy as np
import torch

from skdict._utils.tensors import Tensors, open_file

# Largest description of the tensors in a file of torch.save.
_MAX_PICKLE = 2**20

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
