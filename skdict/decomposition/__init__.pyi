from ._icfl import ICFL
from ._reconstructor import Reconstructor
from ._topk_sae import TopKSAE
from ._truncator import Truncator

__all__ = ["ICFL", "Reconstructor", "TopKSAE", "Truncator"]
