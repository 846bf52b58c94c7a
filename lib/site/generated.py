"""The parts of pages that are made from records: the scorecard, its summary, errata, the benchmarks, the drafts.

    write(root())                          # into .build/generated/, in the place of `[]{.generated part="…"}`

`python -m lib.site.generated` is the `pre-render` of `_quarto.yml`, so that plain `quarto render` has them too.
"""

from __future__ import annotations

import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lib.project import module_name, slugs

FOLDER = ".build/generated"


def write(root: Path) -> dict[str, str]:
    """Make every part and write those that changed. Returns the Markdown by file name."""
    parts = generate(root)
    folder = root / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in parts.items():
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    return parts


def generate(root: Path) -> dict[str, str]:
    """The Markdown of every part, by file name."""
    from lib.claims import judge_all

    judged = judge_all(root)
    return {
        "summary.md": summary(root, judged),
        "scorecard.md": scorecard(root, judged),
        "errata.md": errata(root, judged),
        "benchmarks.md": benchmarks(root),
        "drafts.md": drafts(root),
    }


def summary(root: Path, judged: list[Any]) -> str:
    """The claims by verdict, over all posts and by post, for the home page. Links are those of a page at the root."""
    from lib.claims import VERDICTS, tally

    counts, total = tally(judged), len(judged)
    if not total:
        return "No claim has been judged yet.\n"
    items = "\n".join(
        f'<li class="{_name(verdict)}"><strong>{counts[verdict]}</strong> <span>{verdict}</span></li>'
        for verdict in VERDICTS
    )
    bar = "\n".join(
        f'<span class="{_name(verdict)}" style="flex-grow:{counts[verdict]}"></span>'
        for verdict in VERDICTS
        if counts[verdict]
    )
    posts = len({item.claim.post for item in judged})
    return "\n".join(
        [
            "```{=html}",
            f'<ul class="tally" aria-label="{total} claims by verdict">',
            items,
            "</ul>",
            f'<div class="tally-bar" aria-hidden="true">\n{bar}\n</div>',
            "```",
            "",
            f"{_count(total, 'claim')} of {_count(posts, 'post')}, each with the paper's number, the original's and ours: "
            "see the [scorecard](/scorecard/index.qmd).",
            "",
        ]
    )


def scorecard(root: Path, judged: list[Any]) -> str:
    """Every claim of every post: a section a post, newest first, with a row a claim and a link to its records."""
    from lib.claims import VERDICTS, tally

    if not judged:
        return "No claim has been judged yet.\n"
    lines = [
        "A claim is *reproduced* or *not reproduced* where the 95 % interval over seeds lies wholly on one side of what "
        "the claim expects, and *inconclusive* in between, or where the runs cannot decide it: too few seeds, a smaller "
        "profile or another data set than the claim asks for. *n* is the number of seeds.",
        "",
    ]
    for slug, title in titles(root).items():
        mine = [item for item in judged if item.claim.post == slug]
        if not mine:
            continue
        counts = tally(mine)
        found = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict])
        lines += [
            f"## {title} {{#{slug}}}",
            "",
            f"[Read the post](/posts/{slug}/index.ipynb). {found[:1].upper()}{found[1:]}.{_planted(root, slug)}",
            "",
            "::: {.claims .scorecard}",
            "",
            "| Claim | Whose | Paper | Original | Ours | Verdict | Records |",
            "|" + "|".join("-" * width for width in (36, 9, 10, 10, 18, 24, 12)) + "|",
        ]
        lines += [_row(root, slug, item) for item in mine]
        lines += ["", ":::", ""]
    return "\n".join(lines)


def _planted(root: Path, slug: str) -> str:
    """How many planted mistakes the tests of a post must notice, as a sentence."""
    path = root / "tests" / "mutations" / f"{module_name(slug)}.py"
    if not path.is_file():
        return ""
    return (
        f" Its tests have to notice {_count(len(runpy.run_path(str(path))['MISTAKES']), 'planted mistake')}."
    )


def errata(root: Path, judged: list[Any]) -> str:
    """The originals' mistakes, each with the claim that measures its effect, newest post first."""
    from lib.claims import cell

    known = titles(root)
    found = [item for slug in known for item in judged if item.claim.post == slug and item.claim.mistake]
    if not found:
        return "\n"
    lines = [
        "::: {.claims .errata}",
        "",
        "| Mistake | What we measure | Ours | Verdict |",
        "|" + "|".join("-" * width for width in (36, 40, 18, 14)) + "|",
    ]
    for item in found:
        post, claim = item.claim.post, item.claim
        cells = (
            f"{cell(claim.mistake)} ([{cell(known[post])}](/posts/{post}/index.ipynb))",
            cell(claim.text),
            cell(item.ours.replace(", ", ",\N{NO-BREAK SPACE}")),
            f"[{item.verdict}](/scorecard/index.qmd#{post}-{claim.id}){{.verdict .{_name(item.verdict)}}}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", ":::", ""])


def titles(root: Path) -> dict[str, str]:
    """The title of each post, newest first."""
    from lib.reading import front_matter

    known = {slug: front_matter(root / "posts" / slug / "index.ipynb") for slug in slugs(root)}
    order = sorted(known, key=lambda slug: (str(known[slug].get("date", "")), slug), reverse=True)
    return {slug: str(known[slug].get("title", slug)) for slug in order}


def _row(root: Path, slug: str, item: Any) -> str:
    from lib.claims import cell

    claim = item.claim
    verdict = f"[{item.verdict}]{{.verdict .{_name(item.verdict)}}}: {cell(item.reason)}"
    cells = [
        f"[]{{#{slug}-{claim.id}}}{cell(claim.text)}",
        claim.source,
        cell(item.paper),
        cell(item.original),
        cell(item.ours.replace(", ", ",\N{NO-BREAK SPACE}")),
        verdict,
        _records(root, slug, item) or "–",
    ]
    return "| " + " | ".join(cells) + " |"


def _records(root: Path, slug: str, item: Any) -> str:
    from lib.reading import repository_url

    links = []
    for experiment in item.experiments:
        path = f"posts/{slug}/results/{item.profile}/{experiment}.json"
        if (root / path).is_file():
            url = repository_url(root, path)
            links.append(f"[{experiment}]({url})" if url else f"`{experiment}`")
    return ", ".join(links)


def drafts(root: Path) -> str:
    """The originals that have no notebook here yet, named as what they are."""
    from lib.site.mirror import originals

    missing = [post for slug, post in originals(root).items() if slug not in slugs(root)]
    if not missing:
        return "\n"
    items = [f"- [{post['title']}]({post['link']}), {post['date'][:4]}" for post in missing]
    head = "## Not rebuilt yet {.unlisted}\n\nThese posts of the originals have no notebook here so far; the links lead there."
    return "\n".join([head, "", *items, ""])


def benchmarks(root: Path) -> str:
    """What `posts bench` recorded: a table each of comparisons and of bars, then notes, machine, versions and date."""
    from lib.bench import results

    lines: list[str] = []
    for entry in results(root):
        lines += [f"## {entry['title']}", ""]
        compared = [row for row in entry["rows"] if "value" not in row]
        if compared:
            lines += [
                "::: {.benchmark}",
                "",
                "| Case | Peer / ours (95 % interval) | Ours | Peer | Unit | n |",
            ]
            lines += ["|" + "|".join("-" * width for width in (20, 28, 12, 12, 14, 5)) + "|"]
            lines += [_compared(row) for row in compared] + ["", ":::", ""]
        measured = [row for row in entry["rows"] if "value" in row]
        if measured:
            lines += ["::: {.benchmark}", "", "| Case | Measured (95 % interval) | Unit | Bar | n |"]
            lines += ["|" + "|".join("-" * width for width in (28, 28, 14, 16, 5)) + "|"]
            lines += [_measured(row) for row in measured] + ["", ":::", ""]
        notes = entry.get("notes") or []
        for note in [notes] if isinstance(notes, str) else notes:
            lines += [note, ""]
        versions = ", ".join(f"{name} {version}" for name, version in entry["versions"].items())
        where = f"{entry['machine']}, {_count(entry['threads'], 'thread')}, {versions}, {entry['date']}"
        commit = entry["commit"][:10] + ("" if entry["clean"] else "+")
        lines += ["::: {.provenance}", f"{where}, commit {commit}", ":::", ""]
    return "\n".join(lines) if lines else "No comparison has been recorded yet.\n"


def _compared(row: Mapping[str, Any]) -> str:
    ratio = f"{row['ratio']:.1f} [{row['low']:.1f}, {row['high']:.1f}]"
    return _cells(row["case"], ratio, f"{row['ours']:.4g}", f"{row['peer']:.4g}", row["unit"], str(row["n"]))


def _measured(row: Mapping[str, Any]) -> str:
    from lib.bench import bar, measured

    return _cells(row["case"], measured(row), row["unit"], bar(row), str(row["n"]))


def _cells(*texts: str) -> str:
    from lib.claims import cell

    return "| " + " | ".join(map(cell, texts)) + " |"


def _name(verdict: str) -> str:
    return verdict.replace(" ", "-")


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" + "s" * (n != 1)


if __name__ == "__main__":
    from lib.project import root as find_root

    write(find_root())
