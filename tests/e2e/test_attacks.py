# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Trying to break out: what holds on a shut host, and gets through on one that is not.

The hostile profile is tried in every run, the others in long ones.
"""

from __future__ import annotations

import contextlib
import functools
import json
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from stockyard import (
    HostInfo,
    HostSpec,
    ImageSpec,
    SecuritySpec,
    SingleSpec,
    TemplateInfo,
    TemplateSpec,
    Yard,
)
from stockyard.guest.security import disk
from stockyard.providers.libvirt import network
from tests.integration.conftest import task

from . import attacks
from .conftest import Docker, ssh
from .guest_controller import OnGuests, connection
from .raw_docker import send

pytestmark = pytest.mark.real
IMAGE = ImageSpec(packages=("busybox-static",))
PROFILES = {
    "hostile": SecuritySpec("hostile", limits={"network_mib": attacks.RATE}),
    "shared": SecuritySpec(
        "shared",
        limits={"network_mib": attacks.RATE, "container_memory_percent": 50, "container_pids": 512},
    ),
}
# The limits of a profile apply with either runtime.
RUNTIMES = {"hostile": "runc", "shared": "crun"}
TEMPLATES = {
    name: TemplateSpec(name, image=replace(IMAGE, runtime=RUNTIMES[name]), security=security)
    for name, security in PROFILES.items()
}
PREPARED = (TEMPLATES["hostile"],)
# Attempts that succeed on a shared host: dockerd obeys its users, and only the user namespace
# protects the host.
SHARED = {
    *attacks.OPTIONS.keys(),
    *attacks.COMMANDS.keys(),
} - {"a privileged container", "the host's processes", "the host's network"}
EXPECTED: dict[str, set[str]] = {"hostile": set(), "shared": SHARED}
INSIDE = [*attacks.syscalls((254, 0)), *attacks.LOOKS, "setuid"]
BOMBS = ["fork bomb", "memory bomb", "flood", "disk filler", "recursive mkdir"]
# Ports of the hypervisor's loopback that a session's guest reaches.
GATEWAY = "10.0.2.2"
REACHED = [
    "neighbour",
    "a raw packet to a neighbour",
    "a frame to a neighbour",
    "the host's SSH",
    "the host's Docker",
    "the hypervisor's loopback",
    "the controller",
    "another host's published port",
]
PRIVILEGED: dict[str, Any] = {
    "Image": "attacks",
    "Cmd": ["true"],
    "HostConfig": {"Privileged": True},
}


def ready(host: HostInfo, docker: Docker) -> HostInfo:
    """A host with the attackers' image and a container that runs."""
    docker(
        host, "import", "-", "attacks", stdin=attacks.image(docker.busybox, attacks.disk_of(host))
    )
    port = host.published[0].partition(":")[2]
    docker(
        host,
        "run",
        "-d",
        "--name",
        "victim",
        "-p",
        f"{port}:80",
        "attacks",
        "httpd",
        "-f",
        "-p",
        "80",
    )
    # A way out is looked for as if the guest's root had helped.
    assert ssh(host, "sudo", "ip", "route", "replace", "default", "via", GATEWAY).returncode == 0
    return host


@functools.cache
def port_of(_name: str) -> int:
    """Return an unused port for each host."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def published(name: str) -> HostSpec:
    """A host with a port at the hypervisor's loopback: one that others might find."""
    return HostSpec(ports=(port_of(name),), bind="127.0.0.1")


@pytest.fixture(scope="module", params=["hostile", pytest.param("shared", marks=pytest.mark.full)])
def profile(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def control(yard: Yard, template: TemplateInfo, docker: Docker) -> Iterator[HostInfo]:
    """A host where privileged containers work, as in a machine of one's own, and whose network lets
    everything out.
    """
    with pytest.MonkeyPatch.context() as patch:
        shut = network._user
        patch.setattr(
            network, "_user", lambda host: shut(host).replace("restrict=on", "restrict=off")
        )
        control_host = yard.hosts.apply(
            SingleSpec("control", "docker", host=published("control"))
        ).objects[0]
    yield ready(control_host, docker)
    yard.hosts.delete("control")


@pytest.fixture(scope="module")
def controller() -> Iterator[int]:
    """A service of the controller's, at every address that this machine has; its port."""
    listener_socket = socket.create_server(("0.0.0.0", 0))  # noqa: S104

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                listener_socket.accept()[0].close()

    threading.Thread(target=serve, daemon=True).start()
    yield int(listener_socket.getsockname()[1])
    listener_socket.close()


def own_address() -> str:
    """An address of this machine that is not its loopback; the loopback's where it has no other."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("198.51.100.1", 9))
        except OSError:
            return GATEWAY
        return str(probe.getsockname()[0])


@pytest.fixture(scope="module")
def hosts(yard: Yard, docker: Docker) -> Iterator[Callable[[str], HostInfo]]:
    """A host of each profile that is asked for."""

    @functools.cache
    def make(profile: str) -> HostInfo:
        yard.templates.apply(TEMPLATES[profile])
        spec = SingleSpec(f"shut-{profile}", profile, host=published(profile))
        return ready(yard.hosts.apply(spec).objects[0], docker)

    yield make
    for profile in PROFILES:
        yard.hosts.delete(f"shut-{profile}")


@pytest.fixture(scope="module")
def shut(hosts: Callable[[str], HostInfo], profile: str) -> HostInfo:
    return hosts(profile)


@pytest.fixture(scope="module")
def hostile(hosts: Callable[[str], HostInfo]) -> HostInfo:
    """The one with an authorization plugin."""
    return hosts("hostile")


Outcomes = dict[str, tuple[bool, bool]]


def both(shut: dict[str, bool], control: dict[str, bool]) -> Outcomes:
    assert shut.keys() == control.keys()
    return {name: (shut[name], control[name]) for name in shut}


@pytest.fixture(scope="module")
def outcomes(
    profile: str, shut: HostInfo, control: HostInfo, docker: Docker, controller: int
) -> Outcomes:
    """The attempts that succeeded, on the shut host and on the control."""

    def attack(host: HostInfo, on_control: str, *inside: str) -> dict[str, bool]:
        outcomes = attacks.try_inside(host, docker, *inside)
        outside = {
            "the hypervisor's loopback": (GATEWAY, controller),
            "the controller": (own_address(), controller),
            "another host's published port": (GATEWAY, port_of(on_control)),
        }
        reached = attacks.reach(host, docker, outside)
        return {**outcomes, **reached, **attacks.ask(host, docker), **attacks.use_up(host, docker)}

    with ThreadPoolExecutor() as pool:
        on_control = pool.submit(attack, control, profile, "--privileged", "--pid=host")
        return both(attack(shut, "control"), on_control.result())


def test_suite_makes_a_hundred_attempts() -> None:
    assert len({*INSIDE, *attacks.OPTIONS, *attacks.COMMANDS, *BOMBS, *REACHED}) >= 70


@pytest.mark.parametrize("name", [*attacks.OPTIONS, *attacks.COMMANDS])
def test_requests(outcomes: Outcomes, profile: str, name: str) -> None:
    assert outcomes[name] == (name in EXPECTED[profile], True)


@pytest.mark.parametrize("name", [*INSIDE, *BOMBS, *REACHED])
def test_inside_and_out(outcomes: Outcomes, name: str) -> None:
    assert outcomes[name] == (False, True)


def test_root_of_a_container_is_unprivileged_on_the_host(
    shut: HostInfo, control: HostInfo, docker: Docker
) -> None:
    inside, outside, count = attacks.uid_map(shut, docker, "victim")
    assert (inside, count) == (0, 65536)
    assert outside >= 100000
    assert attacks.uid_map(control, docker, "victim")[1] == 0


def test_a_trusted_host_mounts_loop_devices(control: HostInfo, docker: Docker) -> None:
    line = (
        "dd if=/dev/zero of=/f bs=1M count=4; busybox mke2fs -F /f; "
        "busybox mount -o loop /f /mnt && echo mounted"
    )
    result = docker(
        control, "run", "--rm", "--privileged", "-v", "/dev:/dev", "attacks", "sh", "-c", line
    )
    assert b"mounted" in result.stdout


def test_containers_have_default_limits(shut: HostInfo, docker: Docker) -> None:
    pids = docker(shut, "run", "--rm", "attacks", "cat", "/sys/fs/cgroup/pids.max").stdout
    limit = docker(
        shut, "run", "--rm", "--pids-limit", "7", "attacks", "cat", "/sys/fs/cgroup/pids.max"
    ).stdout
    assert (pids, limit) == (b"512\n", b"7\n")


def test_disk_space_of_containers_is_reserved(shut: HostInfo) -> None:
    """Were all of it full, the host would still have some of its own."""
    line = f"df -B1M --output=size,avail / | tail -n 1; sudo stat -c '%s %b %B' {disk.IMAGE}"
    size, free, whole, blocks, block = map(int, ssh(shut, line).stdout.split())
    assert free - ((whole - blocks * block) >> 20) > size // 20


@pytest.mark.full
def test_kernel_memory_of_a_container_counts_in_its_limit(shut: HostInfo, docker: Docker) -> None:
    """Names and inodes, of which there can be any number: the host's memory is not used up.

    Above its limit the kernel frees them; if it cannot free all at once (the entries of a directory
    that is not on the disk yet), it kills a process of this container, and no other one.
    """
    count = "for i in 1 2 3; do mkdir $i; (cd $i; mkdir $(busybox seq 1 1000)); done"
    look = "busybox sed -n 's/^slab //p' /sys/fs/cgroup/memory.stat; cat /sys/fs/cgroup/memory.peak"
    line = ("attacks", "sh", "-c", f"{count}; {look}")
    slab, peak = map(
        int, docker(shut, "run", "--rm", "--memory", "32m", *line, timeout=600).stdout.split()
    )
    assert slab > 4 << 20
    # The kernel may charge a few pages above the limit before it frees others.
    assert peak <= 33 << 20
    more = ("attacks", "sh", "-c", f"{count.replace('1000', '4000')}; {look}")
    tight = docker(
        shut, "run", "--name", "tight", "--memory", "16m", *more, check=False, timeout=600
    )
    killed = docker(shut, "inspect", "--format", "{{.State.OOMKilled}}", "tight").stdout.strip()
    docker(shut, "rm", "tight")
    assert killed == b"true" or tight.returncode == 0


def test_full_disk_is_free_after_the_deletion_of_its_filler(
    outcomes: Outcomes, shut: HostInfo, docker: Docker
) -> None:
    assert attacks.fill(shut, docker)


def test_host_serves_after_all_attacks(outcomes: Outcomes, shut: HostInfo, docker: Docker) -> None:
    assert docker(shut, "run", "--rm", "attacks", "busybox", "echo", "alive").stdout == b"alive\n"
    failed = ssh(shut, "systemctl --failed --no-legend --plain").stdout
    assert failed == ""


TEXT = json.dumps(PRIVILEGED).encode()
LOWER = TEXT.replace(b"HostConfig", b"hostconfig").replace(b"Privileged", b"pRIVILEGED")
TWICE = TEXT[:-1] + b', "hostconfig": {}}'
PADDED = TEXT[:-1] + b', "Labels": {"a": "' + b"x" * (2 << 20) + b'"}}'
CREATE = "/containers/create"
SPELLED: dict[str, tuple[str, Any, dict[str, str]]] = {
    "plain": (CREATE, TEXT, {}),
    "version": ("/v1.41" + CREATE, TEXT, {}),
    "old version": ("/v1.23" + CREATE, TEXT, {}),
    "keys in lower case": (CREATE, LOWER, {}),
    "two keys that are one": (CREATE, TEXT.replace(b"HostConfig", b"HOSTCONFIG"), {}),
    "chunked": (CREATE, [TEXT[:20], TEXT[20:]], {"Transfer-Encoding": "chunked"}),
    "charset": (CREATE, TEXT, {"Content-Type": "application/json; charset=utf-8"}),
    "padding of 2 MiB": (CREATE, PADDED, {}),
    "something behind it": (CREATE, TEXT + b"{}", {}),
    "query that ends in /auth": (CREATE + "?a=/auth", TEXT, {}),
    "percent sign": ("/containers/%63reate", TEXT, {}),
}
# dockerd redirects these before it asks the plugin.
REDIRECTED = {"two slashes": "//containers//create", "dots": "/x/../containers/create"}


@pytest.mark.parametrize("name", SPELLED)
def test_denied_request_is_denied_in_each_spelling(
    hostile: HostInfo, control: HostInfo, name: str
) -> None:
    path, body, headers = SPELLED[name]
    status, answer = send(hostile, path, body, **headers)
    assert (status, "authorization denied" in answer) == (403, True), answer
    # Docker 26 itself refuses two of these spellings.
    refused = name in ("old version", "something behind it")
    assert send(control, path, body, **headers)[0] == (400 if refused else 201)


@pytest.mark.parametrize("name", REDIRECTED)
def test_unusual_paths_are_refused(hostile: HostInfo, name: str) -> None:
    assert send(hostile, REDIRECTED[name], TEXT)[0] in (301, 403)
    assert send(hostile, CREATE, TEXT)[0] == 403


def test_without_the_plugin_each_request_is_refused(hostile: HostInfo, docker: Docker) -> None:
    assert send(hostile, "/_ping", method="GET")[0] == 200
    ssh(hostile, "sudo systemctl stop stockyard-authz")
    try:
        # All at once: dockerd looks for its plugin for long.
        requests = (
            (CREATE, TEXT, "POST"),
            ("/_ping", None, "GET"),
            ("/containers/json", None, "GET"),
        )
        with ThreadPoolExecutor() as pool:
            assert (
                min(
                    status
                    for status, _answer in pool.map(
                        lambda request: send(hostile, *request), requests
                    )
                )
                >= 400
            )
    finally:
        ssh(hostile, "sudo systemctl start stockyard-authz")
    ssh(hostile, "sudo systemctl kill -s KILL stockyard-authz; sleep 5")
    assert send(hostile, CREATE, TEXT)[0] == 403
    assert docker(hostile, "run", "--rm", "attacks", "true").returncode == 0


@pytest.mark.full
def test_the_audit_finds_all_in_force_and_the_benchmark_kept(
    hostile: HostInfo, control: HostInfo, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Read from the kernel and the daemon of a real host, by the module, over SSH."""
    # A short name: ssh puts a socket beneath it, whose path has at most 107 bytes.
    tmp_path = tmp_path_factory.mktemp("audit")
    inventory = {"all": {"hosts": {host.name: connection(host) for host in (hostile, control)}}}
    (tmp_path / "hosts.json").write_text(json.dumps(inventory))
    controller = OnGuests(tmp_path / "controller")
    look = task("look", "audit", {"become": True}, benchmark=True, docker_users=["stockyard"])
    strict = task("strict", "audit", {"become": True}, security={"profile": "hostile"}, fail=True)
    played = controller.play([look], "-i", str(tmp_path / "hosts.json"), hosts=hostile.name)
    bad = [f for f in played["look"]["findings"] if f["ok"] is not True and not f["waiver"]]
    assert bad == []
    assert played["look"]["compliant"]
    weak = controller.play([strict], "-i", str(tmp_path / "hosts.json"), hosts=control.name)
    assert "user namespaces: none instead of remap" in weak["strict"]["msg"]
