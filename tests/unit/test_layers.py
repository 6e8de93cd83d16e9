# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The house's arrows point one way.

A file's layer is its path under the SDK; an import's layer is the path that it resolves to. ALLOWED
says which layers a layer may import besides itself. The checker is tried on small made-up trees
first, so that it cannot pass blindly.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

CHECKOUT = Path(__file__).parents[2]
PLUGINS = CHECKOUT / "plugins"
SDK = PLUGINS / "module_utils" / "stockyard"
# A file holds one noun; 400 lines are usual at most.
LONGEST_FILE = 600

BASE = {"clock", "errors", "escaping", "files", "model", "paths"}
# Modules that each resource may use besides other resources.
RESOURCE = {*BASE, "guest", "hypervisor", "pki", "planning", "resources", "web"}
PROVIDER = {*BASE, "guest", "hypervisor", "planning", "providers", "providers.common", "web"}
ALLOWED = {
    # Text of others as one printable line: errors and everything above them need it.
    "escaping": set(),
    "errors": {"escaping"},
    "clock": {"errors"},
    # The one place that expands declared paths.
    "paths": {"errors"},
    # The one writer of files that matter.
    "files": set(),
    "web": {"clock", "errors"},
    # Templates in registries and in files.
    "artifacts": {*BASE, "web"},
    "model": {"errors", "escaping"},
    "planning": {"errors", "escaping", "model"},
    # Declared objects from options, for modules and for the command line.
    "declarations": {"errors", "model", "planning"},
    "hypervisor": BASE,
    "pki": {"errors", "files", "model"},
    "guest": {"clock", "errors", "hypervisor", "model"},
    "hostconfig": {*BASE, "guest"},
    # Arrows between resources point one way: hosts know volumes and pools; templates know hosts;
    # fleets know templates.
    "resources": {*BASE, "guest", "hypervisor", "pki", "planning"},
    "resources.pools": RESOURCE,
    "resources.volumes": RESOURCE,
    "resources.hosts": {*RESOURCE, "resources.pools", "resources.volumes"},
    "resources.templates": {*RESOURCE, "artifacts", "resources.hosts"},
    "resources.fleets": {
        *RESOURCE,
        "resources.hosts",
        "resources.pools",
        "resources.templates",
        "resources.volumes",
    },
    "resources.certificates": {*RESOURCE, "resources.fleets", "resources.hosts"},
    "resources.endpoints": {*RESOURCE, "resources.fleets", "resources.hosts"},
    "resources.leases": {
        *RESOURCE,
        "resources.fleets",
        "resources.hosts",
        "resources.pools",
        "resources.templates",
        "resources.volumes",
    },
    "resources.yard": {
        *RESOURCE,
        "resources.endpoints",
        "resources.fleets",
        "resources.hosts",
        "resources.pools",
        "resources.templates",
        "resources.volumes",
    },
    "views": {
        *RESOURCE,
        "resources.hosts",
        "resources.leases",
        "resources.pools",
        "resources.templates",
        "resources.volumes",
    },
    "providers": {"errors"},
    "providers.common": {*BASE, "guest", "hypervisor", "planning", "providers", "web"},
    "providers.libvirt": PROVIDER,
    "providers.memory": PROVIDER,
    "providers.vsphere": PROVIDER,
    # The one file that names the provider packages.
    "providers.open": {
        "errors",
        "hypervisor",
        "model",
        "providers",
        "providers.libvirt",
        "providers.memory",
        "providers.vsphere",
    },
    "result": {"errors", "planning"},
    # Users of the resources: other systems' views of hosts.
    "integrations": {*RESOURCE, "resources.hosts", "result"},
    # The parts of a yard that SDK users call, one for each kind of object.
    "clients": {
        *RESOURCE,
        "resources.certificates",
        "resources.endpoints",
        "resources.fleets",
        "resources.hosts",
        "resources.leases",
        "resources.pools",
        "resources.templates",
        "resources.volumes",
        "result",
    },
    "yard": {
        *RESOURCE,
        "clients",
        "providers.open",
        "resources.volumes",
        "resources.yard",
        "result",
        "views",
    },
    # A Docker API over hosts; it parses HTTP as the reader in a guest does.
    "endpoint": {
        *RESOURCE,
        "readiness",
        "resources.fleets",
        "resources.hosts",
        "resources.volumes",
        "yard",
    },
    # The daemon of a yard, and the client of its lease service.
    "service": {
        *RESOURCE,
        "clients",
        "readiness",
        "resources.hosts",
        "resources.leases",
        "resources.yard",
        "views",
        "yard",
    },
    # The pytest plugin for users' tests.
    "testing": {"errors", "model", "paths", "result", "service", "yard"},
    "readiness": set(),
    # Users of the public parts only.
    "cli": {
        *BASE,
        "clients",
        "declarations",
        "endpoint",
        "integrations",
        "planning",
        "resources",
        "resources.leases",
        "result",
        "service",
        "yard",
    },
    # The names that the top package exports.
    "public": {*RESOURCE, "clients", "providers", "resources.certificates", "result", "yard"},
    "": {"public", *RESOURCE, "clients", "providers", "resources.certificates", "result", "yard"},
}
FORBIDDEN = {"ansible", "ansible_collections", "importlib", "stockyard"}


class Import(NamedTuple):
    """One import: where it is written, and the dotted name that it asks for."""

    line: int
    level: int
    name: str


def imports(tree: ast.Module) -> Iterator[Import]:
    """Every import of a file, inside functions and type-checking blocks too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Import(node.lineno, 0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = f"{node.module}." if node.module else ""
            yield from (
                Import(node.lineno, node.level, module + alias.name) for alias in node.names
            )
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "__import__"
        ):
            yield Import(node.lineno, 0, "importlib.__import__")


def layer(parts: tuple[str, ...]) -> str:
    """The layer of a dotted path under the SDK; two names deep for the providers, one elsewhere."""
    for depth in (2, 1):
        name = ".".join(parts[:depth])
        if name in ALLOWED:
            return name
    return parts[0] if parts else ""


def complaints(sdk: Path) -> list[str]:
    """Every import of the SDK under a directory that breaks a rule, as `file:line: what
    is wrong`.
    """
    return [
        f"{path.relative_to(sdk)}:{imported.line}: {problem}"
        for path in sorted(sdk.rglob("*.py"))
        for imported in imports(ast.parse(path.read_text()))
        if (problem := complaint(path.relative_to(sdk), imported))
    ]


def complaint(path: Path, imported: Import) -> str | None:
    """Return the fault of one import of one file, if it has one."""
    if not imported.level:
        top = imported.name.partition(".")[0]
        return (
            f"imports {top}; the SDK imports itself relatively and nothing of Ansible"
            if top in FORBIDDEN
            else None
        )
    package = path.parent.parts
    if imported.level - 1 > len(package):
        return "imports something outside the SDK"
    target = layer((*package[: len(package) - imported.level + 1], *imported.name.split(".")))
    if target.partition(".")[0] not in ALLOWED:
        target = ""  # a name of the top package itself, not a module of it
    module = path.with_suffix("").parts
    source = layer(module[:-1] if module[-1] == "__init__" else module)
    if target == source or target in ALLOWED.get(source, set()):
        return None
    return f"{source or 'the top package'} imports {target or 'the top package'}"


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("planning/plan.py", "from ..resources.hosts import access"),
        ("planning/plan.py", "from ..providers.libvirt import domain"),
        ("planning/deep/plan.py", "from ...guest import image"),
        ("planning/plan.py", "import ansible.module_utils.basic"),
        ("planning/plan.py", "from .. import something"),
        ("errors.py", "from .planning import plan"),
        ("guest/dockerd.py", "from ..pki import issue"),
        ("resources/yard/reap_yard.py", "from ...providers.open import open_provider"),
        ("resources/yard/reap_yard.py", "from ...providers.memory.provider import Memory"),
        ("providers/libvirt/fork.py", "from ..vsphere import specs"),
        ("providers/vsphere/fork.py", "from ..libvirt.xml import domain"),
        ("providers/libvirt/fork.py", "from ..open import open_provider"),
        ("providers/libvirt/fork.py", "from ...resources.hosts import access"),
        ("providers/other.py", "from .libvirt import provider"),
        ("providers/other.py", "from . import memory"),
        ("model/host.py", "from ..planning import plan"),
        ("resources/pools/pool_lifecycle.py", "from ..hosts import access"),
        ("resources/hosts/host_lifecycle.py", "from ..fleets import rollout"),
        ("planning/plan.py", "import importlib"),
        ("planning/plan.py", "from importlib.util import find_spec"),
        ("planning/plan.py", "plan = __import__('resources')"),
        ("planning/plan.py", "from stockyard.model import host"),
        ("planning/plan.py", "from ... import _ansible"),
        ("planning/plan.py", "def late():\n    from ..resources.yard import reap_yard"),
        ("__init__.py", "from .providers.libvirt import provider"),
    ],
)
def test_an_arrow_that_points_up_is_seen(tmp_path: Path, file: str, line: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(line + "\n")
    assert len(complaints(tmp_path)) == 1


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("model/image.py", "from .host import Host"),
        ("planning/plan.py", "from ..errors import Refused"),
        ("planning/__init__.py", "from .plan import plan"),
        ("planning/plan.py", "import json"),
        ("guest/agent/apply.py", "from ...model.identity import Identity"),
        ("guest/agent/apply.py", "from cryptography import x509"),
        ("resources/templates/provision.py", "from ...pki import store"),
        ("resources/templates/provision.py", "from ...guest import image"),
        ("providers/libvirt/xml/domain.py", "from ..designer import policy"),
        ("providers/libvirt/provider.py", "from ...hypervisor.provider import Provider"),
        ("providers/open.py", "from .libvirt.provider import LibvirtProvider"),
        ("__init__.py", "from .yard import Yard"),
        ("__init__.py", "from .errors import StockyardError"),
    ],
)
def test_an_arrow_that_points_down_is_fine(tmp_path: Path, file: str, line: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(line + "\n")
    assert complaints(tmp_path) == []


def test_the_sdk_keeps_its_layers() -> None:
    assert list(SDK.rglob("*.py")), "there is nothing to look at"
    assert complaints(SDK) == []


def circles(sdk: Path) -> list[list[str]]:
    """Return each group of modules of the SDK that import each other, at import time or later."""
    modules = {path.with_suffix("").relative_to(sdk).parts: path for path in sdk.rglob("*.py")}
    targets = {
        module: set(_imported(sdk, module, path, modules)) for module, path in modules.items()
    }
    reached = {module: _reach(module, targets) for module in modules}
    groups = {
        tuple(
            sorted(
                ".".join(other_module)
                for other_module in modules
                if other_module in reached[module] and module in reached[other_module]
            )
        )
        for module in modules
    }
    return sorted(list(group) for group in groups if group)


def _imported(
    sdk: Path, module: tuple[str, ...], path: Path, modules: dict[tuple[str, ...], Path]
) -> Iterator[tuple[str, ...]]:
    package = path.relative_to(sdk).parent.parts
    for item in imports(ast.parse(path.read_text())):
        if item.level:
            name = (*package[: len(package) - item.level + 1], *item.name.split("."))
            for candidate in (name, (*name, "__init__"), name[:-1], (*name[:-1], "__init__")):
                if candidate in modules and candidate != module:
                    yield candidate
                    break


def _reach(
    start: tuple[str, ...], targets: dict[tuple[str, ...], set[tuple[str, ...]]]
) -> set[tuple[str, ...]]:
    reached: set[tuple[str, ...]] = set()
    pending = list(targets[start])
    while pending:
        module = pending.pop()
        if module not in reached:
            reached.add(module)
            pending += targets[module]
    return reached


def test_modules_that_import_each_other_are_reported(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "host.py").write_text("from . import image\n")
    (tmp_path / "model" / "image.py").write_text("def late():\n    from .host import Host\n")
    (tmp_path / "model" / "pool.py").write_text("from .image import Image\n")
    assert circles(tmp_path) == [["model.host", "model.image"]]


def test_the_sdk_has_no_import_circle() -> None:
    assert circles(SDK) == []


def test_no_file_is_longer_than_the_limit() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in PLUGINS.rglob("*.py")}
    assert {
        str(path.relative_to(CHECKOUT)): n for path, n in lengths.items() if n > LONGEST_FILE
    } == {}


def test_the_sdk_holds_nothing_but_python() -> None:
    # ansible-core ships module_utils by following imports: a data file would never arrive.
    unreadable = [
        path for path in SDK.rglob("*") if path.is_file() and path.suffix not in {".py", ".pyc"}
    ]
    assert unreadable == []
