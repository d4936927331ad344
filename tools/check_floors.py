"""Proves that imports go downward only, by reading them; run by `make lint` as `python -m tools.check_floors`.

FLOORS is the building. A module may import lower floors and its own room (the package or module named in FLOORS). In
the services it may also use the rooms of its own floor that are named before it; in rollcall rooms of one floor do not
know each other. The registrar and the balancer never import each other, and the ground floor imports neither.
A module that is nowhere in FLOORS fails: a new file is given its floor on purpose.
"""

import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

PACKAGES = ("rollcall", "registrar", "balancer")

# Floor -> its rooms in order. A name is a package (with all below it) or a module; the longest name that fits decides.
FLOORS: Mapping[int, tuple[str, ...]] = {
    0: ("rollcall.sip",),
    1: ("rollcall.net", "rollcall.cluster", "rollcall.sql", "rollcall.ops"),
    # pure decisions, and what both services know of media
    2: (
        "rollcall.media",
        "registrar.keys",
        "registrar.records",
        "registrar.gruu",
        "registrar.reginfo",
        "registrar.reading",
        "registrar.bindings",
        "registrar.answering",
        "registrar.bans",
        "registrar.offering",
        "registrar.claims",
        "registrar.auth",
        "registrar.admission",
        "registrar.avalanche",
        "registrar.routing",
        "registrar.owners",
        "balancer.quality",
    ),
    # where things are kept, and what comes in
    3: (
        "registrar.location",
        "registrar.database",
        "registrar.directory",
        "registrar.subscribers",
        "registrar.calls",
        "balancer.sip",
        "balancer.ingest",
    ),
    # one conversation each
    4: (
        "registrar.history",
        "registrar.authorising",
        "registrar.bound",
        "registrar.sending",
        "registrar.branching",
        "registrar.passing",
        "registrar.forking",
        "registrar.diverting",
        "registrar.reconnecting",
        "registrar.strays",
        "registrar.dialogs",
        "registrar.observing",
        "registrar.observing_redis",
        "registrar.observing_sql",
        "registrar.observing_calls",
        "registrar.draining",
        "registrar.observing_nodes",
        "registrar.guarding",
        "registrar.shedding",
        "registrar.registering",
        "registrar.answering_later",
        "registrar.short_way",
        "registrar.proxying",
        "registrar.requests",
        "registrar.trunks",
        "registrar.media",
        "registrar.sites",
        "registrar.distribution",
        "registrar.api",
        "registrar.subscribers_api",
        "registrar.observing_subscribers",
        "registrar.cluster_api",
        "registrar.bans_api",
        "registrar.media_api",
        "registrar.observing_media",
        "registrar.regevent",
        "registrar.workers",
        "balancer.nodes",
        "balancer.placing",
        "balancer.standby",
        "balancer.publication",
        "balancer.present",
        "balancer.tenants",
        "balancer.redirect",
        "balancer.api",
    ),
    # where the parts are joined
    5: (
        "registrar.config",
        "registrar.clustering",
        "registrar.databases",
        "registrar.media_parts",
        "registrar.location_parts",
        "registrar.distributing",
        "registrar.joining",
        "registrar.supervision",
        "registrar.service",
        "registrar.worker",
        "registrar.command",
        "balancer.config",
        "balancer.describing",
        "balancer.sharing",
        "balancer.observing",
        "balancer.joining",
        "balancer.service",
    ),
}


Heights = Mapping[str, tuple[int, int]]  # room -> (floor, place on it)


def find_violations(root: Path, floors: Mapping[int, tuple[str, ...]] = FLOORS) -> list[str]:
    """Return one line for each import that goes upward or across, and for each module without a floor, sorted."""
    heights = {room: (floor, place) for floor, rooms in floors.items() for place, room in enumerate(rooms)}
    return sorted(line for path in _sources(root) for line in _check_module(root, path, heights))


def imported_modules(tree: ast.AST, module: str, is_package: bool) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted name) for every import in `tree`, those inside functions and `if` too.

    `from a.b import c` gives "a.b.c", because c may be a module: a name too long falls into its module's row anyhow.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, module, is_package)
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"


def _sources(root: Path) -> Iterator[Path]:
    for package in PACKAGES:
        yield from (root / package).rglob("*.py")


def _check_module(root: Path, path: Path, heights: Heights) -> Iterator[str]:
    relative = path.relative_to(root)
    is_package = path.name == "__init__.py"
    module = ".".join(relative.parent.parts if is_package else relative.with_suffix("").parts)
    if _room_of(module, heights) is None and module not in PACKAGES:
        yield f"{relative}: stands on no floor; add {module!r} to FLOORS in tools/check_floors.py"
        return
    tree = ast.parse(path.read_text(encoding="utf-8"), str(relative))
    for line, target in imported_modules(tree, module, is_package):
        if not _may_import(module, target, heights):
            yield f"{relative}:{line}: {_placed(module, heights)} imports {_placed(target, heights)}"


def _may_import(module: str, target: str, heights: Heights) -> bool:
    ours, theirs = module.partition(".")[0], target.partition(".")[0]
    if theirs not in PACKAGES:
        return True
    room, other = _room_of(module, heights), _room_of(target, heights)
    if room is None:  # the __init__ of a whole package stands under everything in it
        return False
    if theirs not in (ours, "rollcall"):
        return False
    if other is None or other == room:  # a module without a floor has its own line in the report
        return True
    if heights[other][0] == heights[room][0]:
        return ours != "rollcall" and heights[other] < heights[room]
    return heights[other] < heights[room]


def _placed(module: str, heights: Heights) -> str:
    room = _room_of(module, heights)
    return f"{module} (floor {heights[room][0]})" if room else module


def _room_of(name: str, heights: Heights) -> str | None:
    parts = name.split(".")
    candidates = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((candidate for candidate in candidates if candidate in heights), None)


def _absolute(node: ast.ImportFrom, module: str, is_package: bool) -> str:
    if not node.level:
        return node.module or ""
    parts = module.split(".")
    kept = parts[: len(parts) - node.level + is_package]
    return ".".join([*kept, *([node.module] if node.module else [])])


def main() -> int:
    """Print every violation under the current directory; return 1 when there is one."""
    violations = find_violations(Path.cwd())
    for violation in violations:
        print(violation)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
