"""Everything that `posts check` looks at: published records, claims, and the built site.

Needs neither torch nor the data: staleness is told from the sources, by the fingerprints in the records.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lib import claims, project, reading
from lib.core import PostsError
from lib.runs import fingerprints, published
from lib.runs.records import Damaged


@dataclass(frozen=True)
class Problem:
    """Something wrong: where, and what."""

    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


def check(root: Path, *, mirror: bool = False) -> list[Problem]:
    """All problems of the project; with `mirror`, also where the site differs from the original's inventory."""
    from lib.site import check as site
    from lib.site.mirror import mirror as mirror_of_originals

    problems: list[Problem] = []
    for slug in project.slugs(root):
        problems += records(root, slug)
        problems += of_claims(root, slug)
    problems += [Problem(found.page, found.message) for found in site.check(root)]
    if mirror:
        problems += [Problem(found.page, found.message) for found in mirror_of_originals(root)]
    return problems


def records(root: Path, slug: str) -> Iterator[Problem]:
    """Published records that are damaged, stale, failed, or in no position to be shown."""
    for experiment, profiles in published.available(root, slug).items():
        for profile in profiles:
            where = f"posts/{slug}/results/{profile}/{experiment}.json"
            try:
                found = published.read(root, slug, profile, experiment)
            except PostsError as error:
                yield Problem(where, str(error))
                continue
            changed = Counter(
                reason for record in found for reason in fingerprints.changes(record.provenance.code)
            )
            if changed:
                reasons = ", ".join(reason for reason, _ in changed.most_common(3))
                yield Problem(where, f"stale: {reasons}{' …' if len(changed) > 3 else ''} (posts why {slug})")
            if any(not record.finished for record in found):
                yield Problem(where, "holds runs that failed")
    for path in (root / "posts" / slug / "results").rglob("*"):
        if path.is_file() and path.suffix not in (".json", ".safetensors"):
            yield Problem(str(path.relative_to(root)), "is no published record")
    if (size := published.size_of(root, slug)) > published.LIMIT:
        yield Problem(
            f"posts/{slug}/results", f"{size / 2**20:.1f} MiB; at most {published.LIMIT / 2**20:.0f}"
        )


def of_claims(root: Path, slug: str) -> Iterator[Problem]:
    """Claims that cannot be read, or whose quantity fails."""
    try:
        post = reading.open_post(slug, root=root)
        for claim in claims.load(root, slug):
            claims.judge(claim, post)
    except Damaged:
        return  # told of the pack itself
    except PostsError as error:
        yield Problem(f"posts/{slug}", str(error))
