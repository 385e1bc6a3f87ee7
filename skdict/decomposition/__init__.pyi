from ._icfl import ICFL
from ._reconstructor import Reconstructor
from ._sae import SAE
from ._topk_sae import TopKSAE
from ._truncator import Truncator

__all__ = ["ICFL", "SAE", "Reconstructor", "TopKSAE", "Truncator"]
