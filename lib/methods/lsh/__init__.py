"""Random hyperplane hashing for nearest neighbours by cosine: an index to use, and the ideas behind it one by one.

    from lib.methods.lsh import CosineLSH

    index = CosineLSH(256, seed=0).fit(X)
    ids, cosines = index.query(Q, k=10, candidates=100)

`index` has `CosineLSH`, `forest` the LSH Forest, `planes` how planes are drawn and codes made, `probing` the order in which
buckets are looked into, `theory` what comes out on average, `kernels` the compiled inner loops.

Source: Charikar (2002), Similarity estimation techniques from rounding algorithms, STOC.
"""

from lib.methods.lsh.forest import LSHForest
from lib.methods.lsh.index import CosineLSH, Neighbours, Probed

__all__ = ["CosineLSH", "LSHForest", "Neighbours", "Probed"]
