"""One module a post: its config classes, `configs(profile)`, and `run(config, context)`. See `lib.core`.

This package finds those modules by the post's slug; nothing is listed.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from types import ModuleType

from lib.core import PROFILES, Config, Context, InputError, Result
from lib.project import module_name


def computable() -> tuple[str, ...]:
    """The slugs of the posts that have experiments, in alphabetical order."""
    return tuple(sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__)))


def load(slug: str) -> ModuleType:
    """The experiments of a post. Raises InputError where there are none, or where torch is not installed."""
    if slug not in computable():
        raise InputError(f"no experiments for {slug!r}; there are: {', '.join(computable()) or 'none'}")
    try:
        return importlib.import_module(f"{__name__}.{module_name(slug)}")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "lib":
            raise
        raise InputError(
            f"computing {slug} needs {error.name}, which is not installed: pip install -e '.[compute]'"
        ) from error


def configs(slug: str, profile: str) -> dict[str, list[Config]]:
    """The configs of a profile by experiment, in the order of the profile. Raises InputError for an unknown profile."""
    if profile not in PROFILES:
        raise InputError(f"no profile {profile!r}; one of {', '.join(PROFILES)} is wanted")
    out: dict[str, list[Config]] = {}
    for config in load(slug).configs(profile):
        out.setdefault(config.experiment, []).append(config)
    return out


def handler(slug: str, kind: type[Config]) -> Callable[[Config, Context], Result]:
    """The function that runs configs of a class."""
    run = load(slug).run
    found = run.dispatch(kind)
    if found is run.dispatch(object):
        raise InputError(f"lib/experiments/{module_name(slug)}.py has no handler for {kind.__name__}")
    return found
