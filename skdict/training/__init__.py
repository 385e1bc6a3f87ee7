"""Training on skorch: checkpoints of a fit, and parts that are kept from learning.

The rest of this subpackage is not public. Nothing outside it knows of skorch.
"""

from skdict.training.checkpoint import Checkpoint
from skdict.training.frozen import FrozenAtoms, FrozenEncoder

__all__ = ["Checkpoint", "FrozenAtoms", "FrozenEncoder"]
