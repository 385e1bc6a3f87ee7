from ._edit import ablate

__all__ = [
    "ablate",
]
