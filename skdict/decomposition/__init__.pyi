from ._archetypal_sae import ArchetypalSAE
from ._batch_topk_sae import BatchTopKSAE
from ._codebook import Codebook
from ._fit_many import fit_many
from ._gated_sae import GatedSAE
from ._icfl import ICFL
from ._jump_relu_sae import JumpReLUSAE
from ._ksvd import KSVD
from ._matching_pursuit_sae import MatchingPursuitSAE
from ._matryoshka_sae import MatryoshkaSAE
from ._reconstructor import Reconstructor
from ._sae import SAE
from ._topk_sae import TopKSAE
from ._transcoder import Transcoder
from ._truncator import Truncator

__all__ = [
    "ICFL",
    "KSVD",
    "SAE",
    "ArchetypalSAE",
    "BatchTopKSAE",
    "Codebook",
    "GatedSAE",
    "JumpReLUSAE",
    "MatchingPursuitSAE",
    "MatryoshkaSAE",
    "Reconstructor",
    "TopKSAE",
    "Transcoder",
    "Truncator",
    "fit_many",
]
