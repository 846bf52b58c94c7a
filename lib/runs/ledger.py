"""The ledger: what each profile of a post costs, measured: experiment × arms × seeds × seconds.

A run that was not computed yet is put in at the mean of the measured runs of its experiment in the same profile, and
counted as such.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lib import experiments
from lib.core import PROFILES, Record
from lib.runs import sweep
from lib.runs.store import Store

ALLOWANCE: dict[str, float] = {"smoke": 20.0, "laptop": 2 * 3600.0, "full": 3600.0}
"""What a post may take: CPU-seconds on one core (smoke), on two cores for an hour (laptop), seconds on one GPU (full)."""


@dataclass(frozen=True)
class Line:
    """One experiment in one profile. cpu_s and wall_s are of all its runs, longest_s and peak_mb of the worst one."""

    profile: str
    experiment: str
    arms: int
    seeds: int
    runs: int
    measured: int
    cpu_s: float | None
    wall_s: float | None
    longest_s: float | None
    peak_mb: float | None


def budget(slug: str, project_root: Path, store: Store) -> list[Line]:
    """The ledger of a post, a line an experiment and profile."""
    lines = []
    for profile in PROFILES:
        for experiment, configs in experiments.configs(slug, profile).items():
            keyed = {config.key: config for config in configs}
            found = sweep.lookup(slug, keyed, project_root, store)
            arms = {
                tuple(sorted((k, str(v)) for k, v in c.to_dict().items() if k != "seed")) for c in configs
            }
            seeds = {c.to_dict().get("seed") for c in configs}
            lines.append(
                Line(
                    profile=profile,
                    experiment=experiment,
                    arms=len(arms),
                    seeds=len(seeds),
                    runs=len(configs),
                    measured=len(found),
                    cpu_s=_scaled(found, "cpu_s", len(configs)),
                    wall_s=_scaled(found, "wall_s", len(configs)),
                    longest_s=max((r.provenance.wall_s for r in found.values()), default=None),
                    peak_mb=max((r.provenance.peak_mb for r in found.values()), default=None),
                )
            )
    return lines


def _scaled(found: Mapping[str, Record], name: str, runs: int) -> float | None:
    values = [getattr(record.provenance, name) for record in found.values()]
    return sum(values) / len(values) * runs if values else None
