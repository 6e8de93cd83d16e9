# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks on real guests: nothing in check mode, three hosts, nothing to do the second time,
nothing left.

The last of the real tests: it takes the shared fleet away with everything else.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path

import pytest

from stockyard import HostInfo, Yard

from .conftest import CHECKOUT, OWNER, TEMPLATE, WORK

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("nothing_is_built")]
DECLARATION = f"""
yard_owner: {{owner}}
yard_storage: {WORK}/store
yard_pki_dir: {WORK}/pki
yard_templates:
  - name: {TEMPLATE.name}
    packages: [{", ".join(TEMPLATE.image.packages)}]
yard_fleets:
  - name: web
    template: {TEMPLATE.name}
    count: 3
    ports: [8080]
# Templates of other tests are undeclared; the next run needs them.
yard_prune: "no"
"""


def play(
    name: str, owner: str, *arguments: str, declaration: str = DECLARATION
) -> subprocess.CompletedProcess[str]:
    """Run one of the playbooks over a declared yard, as `make demo` does."""
    path = WORK / f"{owner}.yml"
    path.write_text(declaration.format(owner=owner))
    line = [f"{CHECKOUT}/hack/playbook.sh", name, "-e", f"yard={path}", *arguments]
    result = subprocess.run(line, capture_output=True, text=True, timeout=600, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result


def changes(result: subprocess.CompletedProcess[str]) -> int:
    match = re.search(r"changed=(\d+)", result.stdout)
    assert match, result.stdout
    return int(match[1])


def processes(owner: str) -> list[str]:
    """QEMU processes of an owner."""
    lines = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if line.startswith("/usr/bin/qemu-system") and f"guest={owner}." in line:
                lines.append(line)
    return lines


def domains() -> str:
    virsh = ["virsh", "-c", "qemu:///session", "list", "--all", "--name"]
    return subprocess.run(virsh, capture_output=True, text=True, check=True).stdout


def files() -> set[str]:
    """Everything under the storage directory."""
    return {str(path) for path in (WORK / "store").rglob("*")}


@pytest.mark.usefixtures("session_alone")
def test_check_mode_on_an_empty_yard_lists_all_and_writes_nothing(yard: Yard) -> None:
    before = (domains(), files(), (WORK / "pki" / "nobody").exists())
    result = play("site", "nobody", "--check", "--diff")
    for name in ("template docker", "host web-1", "host web-2", "host web-3"):
        assert f'"{name}"' in result.stdout
    assert (domains(), files(), (WORK / "pki" / "nobody").exists()) == before


def test_site_then_site_again_then_teardown(yard: Yard, fleet: list[HostInfo]) -> None:
    first = play("site", OWNER)
    assert changes(first) == 1
    ready = [h.name for h in yard.hosts.list() if h.ready]
    assert ready == ["web-1", "web-2", "web-3"]
    for host in yard.hosts.list():
        for line in (host.ssh.command, host.docker.context):
            assert line in first.stdout

    begin = time.monotonic()
    assert changes(play("site", OWNER)) == 0
    assert time.monotonic() - begin < 15

    addresses = [h.address for h in yard.hosts.list()]
    assert changes(play("teardown", OWNER)) == 1
    assert yard.hosts.list() == ()
    assert processes(OWNER) == []
    assert [
        n for n in domains().split() if n.startswith(f"{OWNER}.") and ".template." not in n
    ] == []
    assert list((WORK / "store" / "hosts").iterdir()) == []
    # A holder that was killed leaves its file, and no lock on it; other suites kill some.
    assert [p.name for p in (WORK / "store" / "locks").iterdir() if p.name.startswith(OWNER)] == []
    assert not [p for p in files() if "work-" in p]
    listening = subprocess.run(["ss", "-Hltn"], capture_output=True, text=True, check=True).stdout
    assert not [a for a in addresses if f"{a}:" in listening]
    assert channels(OWNER) == []
    known = (WORK / "pki" / OWNER / "default" / "known_hosts").read_text()
    assert known == ""


def channels(owner: str) -> list[Path]:
    """Sockets of guests' channels."""
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return [p for p in (config / "libvirt" / "qemu").rglob("*.0") if owner[:12] in str(p)]
