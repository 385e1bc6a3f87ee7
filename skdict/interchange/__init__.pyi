from ._read import read_dictionary
from ._write import write_dictionary

__all__ = ["read_dictionary", "write_dictionary"]
