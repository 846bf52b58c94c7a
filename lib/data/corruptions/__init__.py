"""The 15 corruptions of CIFAR-10-C in five severities, on whole batches of 32 × 32 colour images, on any device.

    generator = torch.Generator().manual_seed(0)
    worse = corrupt(images, "glass_blur", 5, generator)      # uint8 n × 3 × 32 × 32 in, the same out
    for name in CORRUPTIONS: ...                             # in the benchmark's order
    PARAMETERS["fog"][4]                                     # (1.5, 1.75): strength and decay at severity 5

The parameters are those of the benchmark's published generator; `frost` is a substitute: the benchmark mixes in
photographs, this package procedural textures with the same colours, contrast and spectrum (see `textures`). Draws come
from the generator, on its device, in blocks of `BLOCK` images: a CPU generator gives the same draws for every device.

Source: Hendrycks and Dietterich (2019), Benchmarking Neural Network Robustness to Common Corruptions and Perturbations,
arXiv 1903.12261; the set itself is Zenodo record 2535967 (`lib.data.cifar10c` reads it).
"""

from lib.data.corruptions._corrupt import BLOCK, CORRUPTIONS, FAMILIES, PARAMETERS, SEVERITIES, corrupt, distance
from lib.data.corruptions._textures import KINDS, Kind, textures

__all__ = [
    "BLOCK",
    "CORRUPTIONS",
    "FAMILIES",
    "KINDS",
    "PARAMETERS",
    "SEVERITIES",
    "Kind",
    "corrupt",
    "distance",
    "textures",
]
