"""Where examples come from: named data sets as whole tensors with a fingerprint.

`load("mnist", device="cuda")` reads a set and never downloads; `catalogue()`, `status(name)` and
`fetch(name)` are behind the command `posts data`. Sets are looked for in POSTS_DATA, then in the project's
`data/`. Importing this package costs nothing: torch and the module of a set are imported when that set is
asked for.
"""

from lib.data.files import places
from lib.data.registry import DataSet, Source, Status, catalogue, fetch, find, load, status

__all__ = ["DataSet", "Source", "Status", "catalogue", "fetch", "find", "load", "places", "status"]
