"""Vectors of names, learned from unlabelled names alone: a sum of character n-grams, trained on names and their corruptions.

    encoder = NgramEncoder.train(names, generator)        # folded names of both lists, no labels
    left = encoder.vectors(names)                         # (n, d) of unit length: similar names have a large product

Every name of a batch is corrupted, and must be nearer to its own corruption than to those of the other names (InfoNCE with
the batch as negatives: van den Oord et al. 2018, equation 4). The corruptions are plain ones, for names of any language:
letters replaced, dropped, doubled or swapped; words dropped, cut to their initial or to a few letters, turned around. No
list of nicknames, abbreviations or sounds is in them.

Source: the sum of hashed n-grams is that of Bojanowski et al. (2017), Enriching word vectors with subword information.
"""

from __future__ import annotations

import string
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from lib.core import InputError


@dataclass(frozen=True)
class NgramEncoder:
    """table: (buckets, d), a vector for each bucket of hashed n-grams."""

    table: Float[Tensor, "buckets d"]
    sizes: tuple[int, ...] = (1, 2, 3)

    @staticmethod
    def train(
        names: Sequence[str],
        rng: np.random.Generator,
        *,
        buckets: int = 1 << 13,
        dim: int = 64,
        steps: int = 400,
        batch: int = 256,
        lr: float = 0.02,
        temperature: float = 0.1,
    ) -> NgramEncoder:
        """Learn from folded `names`; duplicates and empty ones are left out.

        rng: decides first weights, batches and corruptions. temperature: of the softmax over the batch. Raises InputError
        for fewer than 2 different names.
        """
        known = sorted({name for name in names if name})
        if len(known) < 2:
            raise InputError(f"{len(known)} different names; at least 2 are wanted to learn from")
        batch = min(batch, len(known))
        first = rng.standard_normal((buckets, dim)).astype(np.float32) / np.sqrt(dim)
        encoder = NgramEncoder(torch.from_numpy(first).requires_grad_())
        optimizer = torch.optim.Adam([encoder.table], lr=lr)
        whole = [encoder.grams(name) for name in known]
        for _ in range(steps):
            chosen = rng.choice(len(known), batch, replace=False)
            changed = [encoder.grams(corrupted(known[i], rng)) for i in chosen]
            a, b = encoder._bags([whole[i] for i in chosen]), encoder._bags(changed)
            logits = a @ b.T / temperature
            target = torch.arange(batch)
            loss = functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return NgramEncoder(encoder.table.detach())

    def grams(self, name: str) -> np.ndarray:
        """Buckets of the n-grams of each word, with marks at its ends."""
        found = [
            f"<{word}>"[i : i + size]
            for word in name.split()
            for size in self.sizes
            for i in range(len(word) + 3 - size)
        ]
        return np.array([zlib.crc32(gram.encode()) % len(self.table) for gram in found], dtype=np.int64)

    def vectors(self, names: Sequence[str]) -> Float[np.ndarray, "n d"]:
        """Vectors (float32) of unit length; of an empty name, zeros."""
        out = np.zeros((len(names), self.table.shape[1]), dtype=np.float32)
        there = [i for i, name in enumerate(names) if name.split()]
        with torch.no_grad():
            for start in range(0, len(there), 4096):
                part = there[start : start + 4096]
                out[part] = self._bags([self.grams(names[i]) for i in part]).numpy()
        return out

    def _bags(self, grams: Sequence[np.ndarray]) -> Tensor:
        offsets = np.cumsum([0, *(len(g) for g in grams[:-1])])
        flat = torch.from_numpy(np.concatenate(grams))
        sums = nn.functional.embedding_bag(flat, self.table, torch.from_numpy(offsets), mode="sum")
        return functional.normalize(sums, dim=1)


def corrupted(name: str, rng: np.random.Generator) -> str:
    """A folded name as somebody might remember it: one or two changes of words, up to two of letters; never empty."""
    words = name.split()
    for _ in range(int(rng.integers(0, 3))):
        at, kind = int(rng.integers(len(words))), rng.random()
        if kind < 0.3 and len(words) > 1:
            words.pop(at)
        elif kind < 0.5:
            words[at] = words[at][:1]
        elif kind < 0.7:
            words[at] = words[at][: int(rng.integers(2, 5))]
        elif kind < 0.85 and len(words[at]) > 3:
            words[at] = "".join(c for i, c in enumerate(words[at]) if i == 0 or c not in "aeiou")
        else:
            words = words[at:] + words[:at]
    text = " ".join(words)
    for _ in range(int(rng.integers(0, 3))):
        at, kind = int(rng.integers(len(text))), rng.random()
        letter = string.ascii_lowercase[int(rng.integers(26))]
        if kind < 0.4:
            text = text[:at] + letter + text[at + 1 :]
        elif kind < 0.6:
            text = text[:at] + text[at + 1 :] if len(text) > 2 else text
        elif kind < 0.8:
            text = text[:at] + text[at] + text[at:]
        else:
            text = text[:at] + text[at + 1 : at + 2] + text[at] + text[at + 2 :]
        text = text or name
    return " ".join(text.split()) or name
