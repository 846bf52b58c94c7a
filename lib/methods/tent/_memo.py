"""MEMO: one image at a time, by agreement over its augmentations."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from lib.methods.tent._learning import Optimizer, Tent

Augment = Callable[[Tensor, int, torch.Generator], Tensor]


class Memo(Tent):
    """Lower the entropy of the mean prediction over `copies` augmentations of one image, answer it, and start again.

    Always episodic, image by image; `predict` answers with the source weights. augment: from an image (c, h, w), a
    number and `generator` to that many images. prior: 16 source examples for the batch statistics, as the paper has it.
    Source: Zhang, Levine and Finn (2022), MEMO: Test Time Robustness via Adaptation and Augmentation, arXiv 2110.09506,
    equation 3. Theirs augments with AugMix; the default here is a flip and a shifted crop.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        generator: torch.Generator,
        copies: int = 32,
        augment: Augment | None = None,
        lr: float = 5e-3,
        parameters: str = "all",
        optimizer: Optimizer = "sgd",
        prior: float = 16.0,
        steps: int = 1,
    ) -> None:
        if copies < 2:
            raise ValueError(f"copies is {copies}; 2 or more are wanted")
        self.generator, self.copies, self.augment = generator, copies, augment or flips_and_crops
        super().__init__(model, lr=lr, steps=steps, parameters=parameters, optimizer=optimizer, prior=prior)

    def _answer(self, inputs: Tensor) -> Tensor:
        answers = []
        for image in inputs:
            self.reset()
            for _ in range(self.steps):
                with torch.enable_grad():
                    log_p = self._logits(self.augment(image, self.copies, self.generator)).log_softmax(1)
                    mean = log_p.logsumexp(0) - math.log(len(log_p))
                    # H of p̄ = mean over augmentations of p (equation 2)
                    (-(mean.exp() * mean).sum()).backward()
                    self._update()
            with torch.no_grad():
                answers.append(self._logits(image[None]))
        self.reset()
        return torch.cat(answers)


def flips_and_crops(
    image: Float[Tensor, "c h w"], copies: int, generator: torch.Generator, pad: int = 4
) -> Float[Tensor, "copies c h w"]:
    """Copies of an image, each shifted by up to `pad` pixels (edges mirrored) and flipped with chance one half."""
    height, width = image.shape[-2:]
    padded = functional.pad(image[None], (pad,) * 4, mode="reflect")[0]
    drawn = torch.randint(0, 2 * pad + 1, (copies, 2), generator=generator, device=generator.device).tolist()
    flip = torch.randint(0, 2, (copies,), generator=generator, device=generator.device).tolist()
    out = [padded[:, top : top + height, left : left + width] for top, left in drawn]
    return torch.stack([one.flip(-1) if turned else one for one, turned in zip(out, flip, strict=True)])
