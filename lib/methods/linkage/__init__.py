"""Record linkage: which profile of one list is which of another, from a few labelled matches.

    left = Table.of({"name": names, "department": departments}, ids)
    right = Table.of({"name": others, "department": theirs}, their_ids)
    linker = Linker((Feature("name", "token_sort_ratio"), Feature("department", "token_set_ratio")))
    linker.fit(left, right, matches, rng=np.random.default_rng(0))      # (m, 2) labelled matches, as positions
    links = linker.link(left, right)                                    # -1 where there is 'no match'
    linker.save(path); Linker.load(path)

Text is folded (no accents, case or punctuation) and compared feature by feature; a logistic regression makes a probability of
the similarities; a decision makes links of the probabilities. Up to 10,000 profiles a side every pair is compared, in chunks;
beyond, those pairs that share a key of `blocks`. Memory is bounded by the chunk and by the pairs that are kept.

Sources: Fellegi and Sunter (1969), A theory for record linkage, JASA 64; Binette and Steorts (2022), (Almost) all of entity
resolution, Science Advances 8; the decisions are the original post's and its wishes.
"""

from lib.methods.linkage.blocks import candidates, keys
from lib.methods.linkage.classifier import PairClassifier, training_pairs
from lib.methods.linkage.compare import SCORERS, Comparison, Feature, Remembered, similarity
from lib.methods.linkage.decisions import (
    DECISIONS,
    Candidates,
    argmax,
    assignment,
    decide,
    first,
    mutual_best,
)
from lib.methods.linkage.linker import FULL, Linker
from lib.methods.linkage.outcomes import CORRECT, INCORRECT, MISSED, outcomes, shares
from lib.methods.linkage.tables import Table, fold

__all__ = [
    "CORRECT",
    "DECISIONS",
    "FULL",
    "INCORRECT",
    "MISSED",
    "SCORERS",
    "Candidates",
    "Comparison",
    "Feature",
    "Linker",
    "PairClassifier",
    "Remembered",
    "Table",
    "argmax",
    "assignment",
    "candidates",
    "decide",
    "first",
    "fold",
    "keys",
    "mutual_best",
    "outcomes",
    "shares",
    "similarity",
    "training_pairs",
]
