# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The house's arrows point one way.

A file's layer is its path under the SDK; an import's layer is the path that it resolves to. ALLOWED says which layers
a layer may import besides itself. The checker is tried on small made-up trees first, so that it cannot pass blindly.
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
LONGEST_FILE = 300

ALLOWED = {
    # How text of others is shown: errors and everything above them need it.
    "escaping": set(),
    "errors": {"escaping"},
    "core": {"errors", "escaping"},
    "web": {"core"},
    "authority": {"errors"},
    "keyfiles": {"errors"},
    "ledger": {"authority", "errors", "keyfiles"},
    "pki": {"authority", "core", "errors", "keyfiles", "ledger"},
    "guest": {"core", "errors"},
    "onhost": {"core", "errors", "guest"},
    "services": {"escaping", "authority", "core", "errors", "guest", "ledger", "pki", "web"},
    "providers": {"core", "errors", "guest", "web"},
    "providers.libvirt": {"core", "errors", "guest", "providers"},
    "providers.memory": {"core", "errors", "guest", "providers"},
    "providers.vsphere": {"core", "errors", "guest", "providers", "web"},
    # The one file that names the provider packages.
    "providers.registry": {"core", "errors", "providers", "providers.libvirt", "providers.memory", "providers.vsphere"},
    # Where the parts are put together, and the public names: anything but a provider's inside.
    "result": {"core"},
    # A user of services beside the yard: another system's view of its hosts.
    "jenkins": {"core", "errors", "result", "services", "web"},
    "leasing": {"core", "errors", "result", "services"},
    "pooling": {"core", "errors", "result", "services"},
    "storing": {"core", "errors", "result", "services"},
    "yard": {
        "core",
        "errors",
        "escaping",
        "leasing",
        "pki",
        "pooling",
        "providers.registry",
        "result",
        "services",
        "storing",
    },
    # What people type: a user of the public parts like any other.
    "cli": {"escaping", "core", "errors", "jenkins", "leasing", "result", "services", "yard"},
    "": {"core", "errors", "guest", "leasing", "pki", "providers", "providers.registry", "result", "services", "yard"},
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
            yield from (Import(node.lineno, node.level, module + alias.name) for alias in node.names)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "__import__":
            yield Import(node.lineno, 0, "importlib.__import__")


def layer(parts: tuple[str, ...]) -> str:
    """The layer of a dotted path under the SDK; two names deep for the providers, one elsewhere."""
    for depth in (2, 1):
        name = ".".join(parts[:depth])
        if name in ALLOWED:
            return name
    return parts[0] if parts else ""


def complaints(sdk: Path) -> list[str]:
    """Every import of the SDK under a directory that breaks a rule, as `file:line: what is wrong`."""
    return [
        f"{path.relative_to(sdk)}:{found.line}: {problem}"
        for path in sorted(sdk.rglob("*.py"))
        for found in imports(ast.parse(path.read_text()))
        if (problem := complaint(path.relative_to(sdk), found))
    ]


def complaint(path: Path, found: Import) -> str | None:
    """What is wrong with one import of one file, if anything is."""
    if not found.level:
        top = found.name.partition(".")[0]
        return f"imports {top}; the SDK imports itself relatively and nothing of Ansible" if top in FORBIDDEN else None
    package = path.parent.parts
    if found.level - 1 > len(package):
        return "imports something outside the SDK"
    target = layer((*package[: len(package) - found.level + 1], *found.name.split(".")))
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
        ("core/plan.py", "from ..services import provision"),
        ("core/plan.py", "from ..providers.libvirt import domain"),
        ("core/deep/plan.py", "from ...guest import image"),
        ("core/plan.py", "import ansible.module_utils.basic"),
        ("core/plan.py", "from .. import something"),
        ("errors.py", "from .core import plan"),
        ("guest/dockerd.py", "from ..pki import issue"),
        ("services/reap.py", "from ..providers import registry"),
        ("services/reap.py", "from ..providers.memory.provider import Memory"),
        ("providers/libvirt/fork.py", "from ..vsphere import specs"),
        ("providers/vsphere/fork.py", "from ..libvirt.xml import domain"),
        ("providers/libvirt/fork.py", "from ..registry import open_provider"),
        ("providers/libvirt/fork.py", "from ...services import wait"),
        ("providers/other.py", "from .libvirt import provider"),
        ("providers/other.py", "from . import memory"),
        ("core/plan.py", "import importlib"),
        ("core/plan.py", "from importlib.util import find_spec"),
        ("core/plan.py", "plan = __import__('services')"),
        ("core/plan.py", "from stockyard.core import host"),
        ("core/plan.py", "from ... import _ansible"),
        ("core/plan.py", "def late():\n    from ..services import reap"),
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
        ("core/plan.py", "from .host import Host"),
        ("core/plan.py", "from ..errors import Refused"),
        ("core/__init__.py", "from .plan import plan"),
        ("core/plan.py", "import json"),
        ("guest/agent/apply.py", "from ...core.identity import Identity"),
        ("guest/agent/apply.py", "from cryptography import x509"),
        ("services/provision.py", "from .. import pki"),
        ("services/provision.py", "from ..guest import image"),
        ("providers/libvirt/xml/domain.py", "from ..designer import policy"),
        ("providers/libvirt/provider.py", "from ...core.provider import Provider"),
        ("providers/registry.py", "from .libvirt.provider import LibvirtProvider"),
        ("__init__.py", "from .providers.registry import open_provider"),
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


def test_no_file_is_too_long() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in PLUGINS.rglob("*.py")}
    assert {str(path.relative_to(CHECKOUT)): n for path, n in lengths.items() if n > LONGEST_FILE} == {}


def test_the_sdk_holds_nothing_but_python() -> None:
    # ansible-core ships module_utils by following imports: a data file would never arrive.
    strangers = [path for path in SDK.rglob("*") if path.is_file() and path.suffix not in {".py", ".pyc"}]
    assert strangers == []
