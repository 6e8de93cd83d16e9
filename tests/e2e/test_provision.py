# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A playbook of the user's, run against a real template: what it leaves is in every host, and
nothing of its way in is.

The template is one of those that are shut the most: a list of allowed images, which what its owner
puts in is not on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stockyard import FleetSpec, GuestError, HostInfo, ImageSpec, Yard
from stockyard.model.preload import Preload
from stockyard.model.provision import Provision
from stockyard.model.security import Policy, SecuritySpec

from .conftest import TEMPLATE, Docker, ssh

pytestmark = [pytest.mark.real, pytest.mark.full]
LINGERING = "nohup sleep 86399 >/dev/null 2>&1 &"
# The hypervisor's address in QEMU's user network, and the name server there.
OUTSIDE = (
    "for there in 10.0.2.2 10.0.2.3; do "
    'timeout 5 bash -c "echo > /dev/tcp/$there/53" && exit 1; done; true'
)
TASKS: list[dict[str, Any]] = [
    {
        "name": "Put a file",
        "ansible.builtin.template": {"src": "said.j2", "dest": "/etc/said"},
        "become": True,
    },
    {
        "name": "Use what is preloaded",
        "ansible.builtin.command": "docker run --rm --pull never base:1 /bin/echo from a container",
        "register": "container",
    },
    {
        "name": "Build on it",
        "ansible.builtin.command": "docker build --network none --tag made:1 -",
        "args": {"stdin": "FROM base:1\nLABEL made=here\n"},
        "environment": {"DOCKER_BUILDKIT": "0"},
    },
    {"name": "Leave something running", "ansible.builtin.shell": LINGERING},
    {"name": "Look outside", "ansible.builtin.shell": OUTSIDE, "args": {"executable": "/bin/bash"}},
    {
        "name": "Be content",
        "ansible.builtin.assert": {"that": "container.stdout == 'from a container'"},
    },
]


def write(folder: Path, tasks: list[dict[str, Any]]) -> str:
    folder.mkdir()
    (folder / "said.j2").write_text("{{ word }} in {{ inventory_hostname }}\n")
    (folder / "template.yml").write_text(
        json.dumps([{"hosts": "template", "gather_facts": True, "tasks": tasks}])
    )
    return str(folder / "template.yml")


@pytest.fixture(scope="module")
def spec(busybox: bytes, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("provision")
    rootfs = folder / "base.tar"
    rootfs.write_bytes(busybox)
    image = ImageSpec(
        packages=TEMPLATE.image.packages,
        preload=(Preload("rootfs", str(rootfs), "base:1"),),
        commands=("docker image inspect base:1 > /dev/null",),
    )
    shut = SecuritySpec("hostile", policy=Policy(images=("base:*", "made:*")))
    provision = Provision(write(folder / "good", TASKS), variables={"word": "cattle"})
    return replace(TEMPLATE, name="made", image=image, security=shut, provision=provision)


@pytest.fixture(scope="module")
def host(yard: Yard, spec: Any) -> Iterator[HostInfo]:
    built = yard.templates.apply(spec).objects[-1]
    assert built.provision == "playbook template.yml"
    yield yard.fleets.apply(FleetSpec("made", "made", count=1)).objects[0]
    yard.fleets.delete("made")
    yard.templates.delete("made")


def test_hosts_have_the_changes_of_the_playbook(
    yard: Yard, host: HostInfo, spec: Any, docker: Docker
) -> None:
    assert ssh(host, "cat /etc/said").stdout == "cattle in made\n"
    listed = docker(host, "images", "--format", "{{.Repository}}:{{.Tag}}").stdout.decode().split()
    assert sorted(listed) == ["base:1", "made:1"]
    assert (
        docker(host, "run", "--rm", "--pull", "never", "made:1", "/bin/echo", "x").stdout == b"x\n"
    )
    assert not yard.templates.apply(spec).changed
    Path(spec.provision.playbook).with_name("more.yml").write_text("")
    plan = yard.templates.apply(spec, check=True).plan
    assert "its declaration changed; playbook template.yml will run in it" in str(plan.actions[0])


def test_ssh_access_of_the_playbook_is_removed(host: HostInfo) -> None:
    keys = ssh(
        host, "cat /etc/ssh/stockyard_authorized_keys; ls -A ~; pgrep -a sleep; ls /etc/ssh/*_key*"
    ).stdout
    assert len([line for line in keys.splitlines() if line.startswith("ssh-")]) == 1
    assert ".ansible" not in keys
    assert "86399" not in keys
    assert sorted(line for line in keys.splitlines() if "ssh_host" in line) == [
        "/etc/ssh/ssh_host_ed25519_key",
        "/etc/ssh/ssh_host_ed25519_key.pub",
    ]


def test_the_list_of_images_is_in_force_again(
    host: HostInfo, docker: Docker, busybox: bytes
) -> None:
    refused = docker(host, "import", "-", "base:2", stdin=busybox, check=False)
    assert b"only images of the list are let in" in refused.stderr
    assert b"not on the list" in docker(host, "pull", "evil:1", check=False).stderr
    assert ssh(host, "ls /var/lib/stockyard").stdout.split().count("authorization.json") == 0


def test_failed_playbook_freezes_no_template(yard: Yard, spec: Any, tmp_path: Path) -> None:
    bad = [{"name": "Break", "ansible.builtin.command": "sh -c 'echo it is broken; exit 3'"}]
    provision = Provision(write(tmp_path / "bad", bad))
    with pytest.raises(GuestError, match="the template was not frozen") as failed:
        yard.templates.apply(replace(spec, name="never", provision=provision))
    assert "it is broken" in failed.value.cause
    assert "TASK [Break]" in failed.value.cause
    assert yard.templates.list(name="never") == ()
