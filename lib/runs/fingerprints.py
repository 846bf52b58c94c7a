"""What code a run went through: every definition of `lib` that its handler reaches, each with a hash.

    code("lib.experiments.dl_massive_label_noise", "noise_curve")   # {"lib.training:fit": "3f0c…", …}

The hash is of the syntax tree without comments, docstrings, annotations or layout, the same on every Python from 3.11.
References are followed from definition to definition, through imports between the modules of `lib`, so that adding a
network to `lib.nets` leaves the records of those that do not use it alone. What is found too much is harmless (a local
name equal to a global one); what cannot be followed (a module passed around as a value) counts whole. Left out are the
rooms that cannot change a result: `lib.core`, `lib.runs`. Data enter a record by a fingerprint of their own.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path

PACKAGE = "lib"
POSTS = "lib.experiments."
OUTSIDE = ("lib.core", "lib.runs", "lib.project")


@dataclass
class _Module:
    """One source file: its top-level definitions by name, and what its imports from `lib` bind."""

    name: str
    bindings: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imports: dict[str, tuple[str, str | None]] = field(default_factory=dict)


def code(module: str, *names: str) -> dict[str, str]:
    """Hashes by `module:name` of all definitions reached from the given ones (12 hexadecimal digits each)."""
    found: dict[str, str] = {}
    waiting = [(module, name) for name in names]
    while waiting:
        where, name = waiting.pop()
        if where.startswith(OUTSIDE):
            continue
        source = _module(where)
        label = f"{where}:{name}"
        if source is None or label in found:
            continue
        if name in source.bindings:
            statements = source.bindings[name]
            found[label] = hashlib.sha256("\n".join(map(_normal, statements)).encode()).hexdigest()[:12]
            for statement in statements:
                waiting.extend(_references(statement, source))
        elif name in source.imports:
            waiting.extend(_target(*source.imports[name]))
    return dict(sorted(found.items()))


def changes(recorded: Mapping[str, str]) -> list[str]:
    """What differs from the code of a record, in words: `lib.training:fit changed`, `… is new`, `… is gone`.

    Empty: the record is not stale. References are followed from the definitions of its post, by reading files alone, so
    that staleness can be told on a machine without torch.
    """
    current = _current(tuple(name for name in sorted(recorded) if name.startswith(POSTS)))
    out = [f"{name} changed" for name in recorded if name in current and recorded[name] != current[name]]
    out += [f"{name} is new" for name in current if name not in recorded]
    out += [f"{name} is gone" for name in recorded if name not in current]
    return sorted(out)


@cache
def _current(starts: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for start in starts:
        found |= code(*start.split(":"))
    return found


def _target(module: str, name: str | None) -> Iterator[tuple[str, str]]:
    """The definitions that an imported name stands for: one, or all of a module used as a value."""
    if name is not None and _module(f"{module}.{name}") is not None:
        module, name = f"{module}.{name}", None
    if name is not None:
        yield module, name
    elif (source := _module(module)) is not None:
        for binding in source.bindings:
            yield module, binding


def _references(statement: ast.stmt, source: _Module) -> Iterator[tuple[str, str]]:
    imports = source.imports | _imports(ast.walk(statement), source.name)
    dotted: set[int] = set()
    for node in _walk(statement):
        if isinstance(node, ast.Attribute) and (chain := _chain(node)) is not None:
            first, *rest = chain
            if first.id in imports and id(first) not in dotted:
                module, name = imports[first.id]
                whole = module if name is None else f"{module}.{name}"
                for part in rest:
                    dotted.add(id(first))
                    if _module(f"{whole}.{part}") is None:
                        if _module(whole) is not None:
                            yield whole, part
                        elif name is not None:
                            yield module, name
                        break
                    whole = f"{whole}.{part}"
                else:
                    yield from _target(whole, None)
    for node in _walk(statement):
        if isinstance(node, ast.Name) and id(node) not in dotted:
            if node.id in source.bindings:
                yield source.name, node.id
            elif node.id in imports:
                yield from _target(*imports[node.id])


def _chain(node: ast.Attribute) -> list | None:
    """`a.b.c` as [Name a, "b", "c"]; None where it does not begin with a name."""
    parts: list = []
    value: ast.expr = node
    while isinstance(value, ast.Attribute):
        parts.append(value.attr)
        value = value.value
    return [value, *reversed(parts)] if isinstance(value, ast.Name) else None


@cache
def _module(name: str) -> _Module | None:
    """The source of a module of this package, or None where there is no such file."""
    if name.split(".")[0] != PACKAGE:
        return None
    path = _file(name)
    if path is None:
        return None
    tree = ast.parse(path.read_text(), filename=str(path))
    module = _Module(name)
    module.imports = _imports(_top_level(tree.body), name)
    for statement in _top_level(tree.body):
        for bound in _bound(statement):
            module.bindings.setdefault(bound, []).append(statement)
    return module


def _file(name: str) -> Path | None:
    """Where a module of this package lies. Nothing is imported for it: a package may need what is not installed here."""
    path: list[str] | None = None
    origin = None
    parts = name.split(".")
    for depth in range(1, len(parts) + 1):
        package = ".".join(parts[:depth])
        loaded = sys.modules.get(package)
        spec = getattr(loaded, "__spec__", None) or PathFinder.find_spec(package, path)
        if spec is None:
            return None
        origin, path = spec.origin, list(getattr(loaded, "__path__", spec.submodule_search_locations or ()))
    return Path(origin) if origin is not None else None


def _top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a module, those under `if` and `try` included."""
    for statement in body:
        if isinstance(statement, ast.If | ast.Try | ast.With):
            for part in ("body", "orelse", "finalbody"):
                yield from _top_level(getattr(statement, part, []))
            for handler in getattr(statement, "handlers", []):
                yield from _top_level(handler.body)
        else:
            yield statement


def _bound(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.For):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        for target in targets:
            for node in ast.walk(target):
                if isinstance(node, ast.Name):
                    yield node.id


def _imports(nodes: Iterator[ast.AST], module: str) -> dict[str, tuple[str, str | None]]:
    """Local name -> (module, name in it, or None for the module itself), for imports from this package."""
    out: dict[str, tuple[str, str | None]] = {}
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == PACKAGE:
                    out[alias.asname or PACKAGE] = (alias.name if alias.asname else PACKAGE, None)
        elif isinstance(node, ast.ImportFrom):
            start = node.module or ""
            if node.level:
                parents = module.split(".")[: -node.level]
                start = ".".join([*parents, start] if start else parents)
            if start.split(".")[0] == PACKAGE:
                for alias in node.names:
                    out[alias.asname or alias.name] = (start, alias.name)
    return out


_SKIPPED = {"ctx", "kind", "type_comment", "type_ignores", "annotation", "returns", "type_params"}


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """Like ast.walk, without annotations and without the fields of a config class."""
    yield node
    for name, value in ast.iter_fields(node):
        if name in _SKIPPED:
            continue
        for child in _body(node, name, value) if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _walk(child)


def _body(node: ast.AST, name: str, value: list) -> list:
    """A body without its docstring; that of a config class without its fields (their values are in the record).

    Of a class that others take their fields from, fields declared with `later` are left out: they came after records.
    """
    if name != "body" or not value or not hasattr(node, "body"):
        return value
    first = value[0]
    if (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    ):
        value = value[1:]
    if isinstance(node, ast.ClassDef) and any(keyword.arg == "experiment" for keyword in node.keywords):
        value = [item for item in value if not isinstance(item, ast.AnnAssign)]
    if isinstance(node, ast.ClassDef):
        value = [item for item in value if not _is_later(item)]
    return value


def _is_later(statement: ast.AST) -> bool:
    call = getattr(statement, "value", None) if isinstance(statement, ast.AnnAssign) else None
    return isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "later"


def _normal(node: object) -> str:
    """A text for a syntax tree: node types and non-empty fields, in the grammar's order."""
    if isinstance(node, ast.AST):
        parts = []
        for name, value in ast.iter_fields(node):
            if name not in _SKIPPED and value is not None:
                if isinstance(value, list):
                    value = _body(node, name, value)
                    if not value:
                        continue
                parts.append(f"{name}={_normal(value)}")
        return f"{type(node).__name__}({', '.join(parts)})"
    if isinstance(node, list):
        return f"[{', '.join(map(_normal, node))}]"
    return repr(node)
