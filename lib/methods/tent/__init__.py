"""TENT and its relatives: any classifier with normalisation layers adapts to the test data that it is asked about.

    adapted = adapt(model, "tent", lr=1e-3)       # a copy of the model; the model itself stays as it is
    for batch in stream:
        logits = adapted(batch)                   # answers, and learns from the batch: online
    adapted.predict(batch)                        # answers only
    adapted.reset()                               # weights and optimiser exactly as they were at the start
    adapt(model, "tent", episodic=True)           # every batch from the start

Methods, all behind that interface (`METHODS` has their classes, whose docstrings have options and sources): `source`
(no adaptation), `norm` (batch statistics, with a prior of N source examples), `tent` (entropy), `pseudo` (pseudo-labels),
`eata`, `sar`, `lame` (answers alone), `memo` (one image at a time). The model maps a batch to logits (batch, classes), or
(batch, classes, places …) for segmentation. BatchNorm, GroupNorm and LayerNorm adapt; dropout stays off.

Source: Wang, Shelhamer, Liu, Olshausen and Darrell (2021), Tent: Fully Test-Time Adaptation by Entropy Minimization,
arXiv 2006.10726.
"""

from lib.methods.tent._adapt import METHODS, adapt
from lib.methods.tent._adapted import Adapted, NotFinite, Source
from lib.methods.tent._entropy import entropy, entropy_gradient
from lib.methods.tent._lame import Lame
from lib.methods.tent._layers import affine_parameters, chosen_parameters
from lib.methods.tent._learning import Eata, Norm, PseudoLabels, Sar, Tent
from lib.methods.tent._memo import Memo, flips_and_crops

__all__ = [
    "METHODS",
    "Adapted",
    "Eata",
    "Lame",
    "Memo",
    "Norm",
    "NotFinite",
    "PseudoLabels",
    "Sar",
    "Source",
    "Tent",
    "adapt",
    "affine_parameters",
    "chosen_parameters",
    "entropy",
    "entropy_gradient",
    "flips_and_crops",
]
