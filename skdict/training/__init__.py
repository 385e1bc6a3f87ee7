"""Training on skorch: checkpoints of a fit.

The rest of this subpackage is not public. Nothing outside it knows of skorch.
"""

from skdict.training.checkpoint import Checkpoint

__all__ = ["Checkpoint"]
