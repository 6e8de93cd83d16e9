# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The audit tells what is in force from what was only wanted."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from stockyard import NotFound
from stockyard.guest.security import MARKER, authorization, bundle, kernel, login
from stockyard.hostconfig import cis
from stockyard.hostconfig.audit import SLICE, Audit, settings_of
from stockyard.hostconfig.machine import Machine
from stockyard.model.security import SecuritySpec

from .conftest import Programs

Put = Callable[[str, str], None]
HOSTILE = SecuritySpec("hostile").settings()
INFO = {
    "ID": "x",
    "CgroupVersion": "2",
    "Driver": "overlay2",
    "LiveRestoreEnabled": True,
    "ExperimentalBuild": False,
    "SecurityOptions": [
        "name=apparmor",
        "name=seccomp,profile=default",
        "name=userns",
        "name=cgroupns",
    ],
    "Plugins": {"Authorization": ["stockyard-authz"]},
    "RegistryConfig": {"InsecureRegistryCIDRs": ["127.0.0.0/8"]},
}
CONTAINER = "c" * 64
# Output of ss: the TLS front, and ports that containers publish.
LISTENING = """\
LISTEN 0 4096 *:2376 *:* users:(("stunnel4",pid=9,fd=7))
LISTEN 0 4096 0.0.0.0:8080 0.0.0.0:* users:(("dockerd",pid=7,fd=8))
LISTEN 0 4096 [::]:8081 [::]:* users:(("dockerd",pid=7,fd=9))
"""


# Output of the kernel: the default route, the host's own network, Docker's bridge.
ROUTES = """\
Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT
eth0 00000000 0202000A 0003 0 0 0 00000000 0 0 0
eth0 0002000A 00000000 0001 0 0 0 00FFFFFF 0 0 0
docker0 000011AC 00000000 0001 0 0 0 0000FFFF 0 0 0
"""


@pytest.fixture
def shut(machine: Machine, put: Put, programs: Programs) -> Machine:
    """A machine that is what the hostile profile wants."""
    for path, file in bundle(HOSTILE, "me").files.items():
        put(path, file.text)
    for key, value in kernel.sysctls(HOSTILE).items():
        put("/proc/sys/" + key.replace(".", "/"), value + "\n")
    put(f"{SLICE}/pids.max", "2048\n")
    put(f"{SLICE}/memory.max", "786432000\n")
    put(
        "/proc/meminfo",
        f"MemTotal: {786432000 * 100 // HOSTILE.limits.memory_percent // 1024} kB\n",
    )
    put("/proc/77/status", "Name:\tsleep\nNoNewPrivs:\t1\nSeccomp:\t2\n")
    put("/proc/77/uid_map", "         0     100000      65536\n")
    programs.say("docker info", out=json.dumps(INFO))
    programs.say(
        "docker network inspect",
        out='[{"Options": {"com.docker.network.bridge.enable_icc": "false"}}]',
    )
    programs.say("docker ps", out=CONTAINER + "\n")
    programs.say("docker inspect", out='[{"State": {"Pid": 77}}]')
    programs.say("systemctl is-active", out="active\n")
    programs.say(
        "systemctl show --property=Listen", out="/run/stockyard-docker/docker.sock (Stream)\n"
    )
    programs.say(
        "nft list", out="chain input { type filter hook input priority -10; policy drop; }"
    )
    programs.say("nft list table bridge", out='chain forward { meta ibrname "docker0" drop }')
    put("/proc/net/route", ROUTES)
    put(
        "/proc/net/ipv6_route",
        f"{'fe80':0<32} 40 {0:032x} 00 {0:032x} 00000100 00000001 00000000 00000001 eth0\n",
    )
    put("/proc/mounts", "/dev/loop0 /var/lib/docker ext4 rw 0 0\n")
    programs.say("auditctl", out="-w /usr/sbin/dockerd -p wa -k docker\n")
    programs.say("ss ", out=LISTENING)
    programs.say(
        "docker ps --format", out="0.0.0.0:8080-8081->80-81/tcp, :::8080-8081->80-81/tcp, 53/udp\n"
    )
    programs.say("sshd", out=login.TEXT.lower() + "passwordauthentication no\n")
    return machine


def bad(machine: Machine) -> list[str]:
    return [f.check for f in Audit(machine, settings_of(machine)).findings() if f.bad]


def test_correct_host_has_no_findings(shut: Machine) -> None:
    assert bad(shut) == []


def test_changes_of_the_daemon_of_docker_itself_must_be_recorded(shut: Machine, put: Put) -> None:
    before = benchmark(shut)
    put("/usr/bin/runc", "")
    assert set(benchmark(shut)) - set(before) == {"1.1.18 changes of /usr/sbin/runc are recorded"}


def benchmark(machine: Machine) -> list[str]:
    return [f.check for f in cis.findings(Audit(machine, settings_of(machine))) if f.bad]


def test_expected_profile_is_read_from_the_host(shut: Machine, machine: Machine) -> None:
    assert settings_of(shut) == HOSTILE
    machine.path(MARKER).unlink()
    with pytest.raises(NotFound, match="role hardening"):
        settings_of(machine)


@pytest.mark.parametrize(
    ("name", "text", "check"),
    [
        ("/proc/sys/kernel/sysrq", "438\n", "sysctl kernel.sysrq"),
        (
            "/proc/77/status",
            "NoNewPrivs:\t0\nSeccomp:\t2\n",
            f"container {CONTAINER[:12]}: no new privileges",
        ),
        (
            "/proc/77/status",
            "NoNewPrivs:\t1\nSeccomp:\t0\n",
            f"container {CONTAINER[:12]}: seccomp",
        ),
        (
            "/proc/77/uid_map",
            "0 0 4294967295\n",
            f"container {CONTAINER[:12]}: its root on the host",
        ),
        (f"{SLICE}/pids.max", "max\n", "processes of all containers"),
        (f"{SLICE}/memory.max", "max\n", "memory of all containers"),
        (f"{SLICE}/memory.max", "900000000\n", "memory of all containers"),
        ("/proc/meminfo", "", "memory of all containers"),
        ("/etc/docker/daemon.json", "{}", "daemon.json no-new-privileges"),
        ("/sys/kernel/mm/ksm/run", "1\n", "memory is not merged (KSM)"),
        ("/proc/mounts", "/dev/vda / ext4 rw 0 0\n", "containers have a file system of their own"),
    ],
)
def test_state_of_the_kernel_decides(
    shut: Machine, put: Put, name: str, text: str, check: str
) -> None:
    put(name, text)
    assert check in bad(shut)


@pytest.mark.parametrize(
    ("line", "out", "check"),
    [
        (
            "docker info",
            json.dumps({**INFO, "SecurityOptions": ["name=seccomp"]}),
            "user namespaces",
        ),
        (
            "docker info",
            json.dumps({**INFO, "Plugins": {"Authorization": None}}),
            "authorization plugins",
        ),
        ("docker info", "", "docker answers"),
        (
            "docker network inspect",
            '[{"Options": {"com.docker.network.bridge.enable_icc": "true"}}]',
            "containers reach each other",
        ),
        ("nft list", "policy accept", "firewall rules in the kernel"),
        ("nft list table bridge", "", "frames between containers are dropped"),
        ("auditctl", "No rules\n", "audit rules in the kernel"),
        ("systemctl is-active", "failed\n", "stockyard-authz.service"),
        ("systemctl is-active", "failed\n", "stockyard-reader.service"),
        (
            "systemctl show --property=Listen",
            "/run/docker.sock (Stream)\n",
            "dockerd listens for the HTTP reader alone",
        ),
        ("sshd", "x11forwarding yes\n", "sshd X11Forwarding"),
    ],
)
def test_output_of_programs_decides(
    shut: Machine, programs: Programs, line: str, out: str, check: str
) -> None:
    programs.say(line, out=out)
    assert check in bad(shut)


@pytest.mark.parametrize(
    "network", ["000012AC 00000000 0001 0 0 0 0000FFFF", "000512AC 00000000 0001 0 0 0 00FFFFFF"]
)
def test_host_network_inside_a_pool_is_reported(shut: Machine, put: Put, network: str) -> None:
    put("/proc/net/route", f"{ROUTES}eth1 {network} 0 0 0\n")
    collisions = {f.found for f in Audit(shut, HOSTILE).findings() if f.bad}
    assert collisions in ({"eth1 172.18.0.0/16"}, {"eth1 172.18.5.0/24"})


def test_host_network_that_meets_a_bridge_is_reported(shut: Machine, put: Put) -> None:
    put("/proc/net/route", f"{ROUTES}br-9 0002000A 00000000 0001 0 0 0 00FFFFFF 0 0 0\n")
    assert bad(shut) == ["the host's networks that meet Docker's"]


def test_link_local_networks_are_no_collision(shut: Machine, put: Put) -> None:
    link_local, multicast = (
        "fe800000000000000000000000000000 40",
        "ff000000000000000000000000000000 08",
    )
    lines = [
        f"{network} {'0' * 32} 00 {'0' * 32} 00000100 00000001 00000000 00000001 {name}\n"
        for network in (link_local, multicast)
        for name in ("eth0", "docker0")
    ]
    put("/proc/net/ipv6_route", "".join(lines))
    assert bad(shut) == []


def test_ipv6_network_inside_a_pool_is_reported(shut: Machine, put: Put) -> None:
    network = "fd5a7c1ed0c800000000000000000000 40"
    put("/proc/net/ipv6_route", f"{network} {'0' * 32} 00 {'0' * 32} 0 0 0 0 eth1\n")
    assert bad(shut) == ["the host's networks that meet Docker's"]


@pytest.mark.parametrize("name", ["rules", "tables", "policy"])
def test_plugin_of_another_release_is_reported(shut: Machine, put: Put, name: str) -> None:
    put(f"{authorization.PROGRAM}/{name}.py", "# older\n")
    plugin = next(f for f in Audit(shut, HOSTILE).findings() if f.check == "authorization plugin")
    assert (plugin.bad, plugin.found) == (True, f"{authorization.PROGRAM}/{name}.py")
    assert "new generation" in plugin.expected


def test_settings_of_a_stopped_sshd_are_read(shut: Machine, programs: Programs) -> None:
    """It says nothing without the directory that systemd makes for it."""
    programs.say("sshd", out="")
    programs.say(
        "systemd-run --quiet --pipe", out=login.TEXT.lower() + "passwordauthentication no\n"
    )
    assert bad(shut) == []


def test_a_trusted_host_has_little_to_hold(machine: Machine, programs: Programs) -> None:
    settings = SecuritySpec().settings()
    programs.say(
        "docker info",
        out=json.dumps(
            {**INFO, "SecurityOptions": ["name=apparmor", "name=seccomp"], "Plugins": {}}
        ),
    )
    programs.say(
        "docker network inspect",
        out='[{"Options": {"com.docker.network.bridge.enable_icc": "true"}}]',
    )
    names = {f.check for f in Audit(machine, settings).findings() if f.bad}
    assert names == {"daemon.json log-driver", "daemon.json log-opts"}


def test_the_benchmark_has_every_number_once_and_a_waiver_is_for_one_that_exists(
    shut: Machine,
) -> None:
    findings = cis.findings(Audit(shut, HOSTILE))
    numbers = [f.check.split()[0] for f in findings]
    assert len(numbers) == len(set(numbers))
    sections = {n: [x for x in numbers if x.startswith(f"{n}.")] for n in (1, 2, 3)}
    assert [len(s) for s in sections.values()] == [18, 18, 24]
    assert set(cis.WAIVERS) <= set(numbers)


def test_waiver_does_not_hide_a_passed_check(shut: Machine) -> None:
    findings = {f.check.split()[0]: f for f in cis.findings(Audit(shut, HOSTILE))}
    assert findings["2.2"].ok
    assert not findings["2.2"].waiver
    assert findings["2.13"].waiver
    assert not findings["2.13"].bad


def test_members_of_the_docker_group_are_reported(shut: Machine, put: Put) -> None:
    put("/etc/group", "docker:x:100:stockyard,stockyard-tls,mallory\n")
    findings = {
        f.check.split()[0]: f for f in cis.findings(Audit(shut, HOSTILE), frozenset({"stockyard"}))
    }
    assert findings["1.1.2"].found == "mallory"
    assert findings["1.1.2"].bad


def test_ports_that_containers_publish_are_not_the_daemons(shut: Machine) -> None:
    assert {f.check.split()[0]: f for f in cis.findings(Audit(shut, HOSTILE))}["2.7"].ok


@pytest.mark.parametrize(
    "output",
    [
        'LISTEN 0 4096 *:2375 *:* users:(("dockerd",pid=7,fd=8))\n',
        LISTENING.replace("8081", "53"),
        None,
    ],
)
def test_daemon_that_listens_itself_is_reported(
    shut: Machine, programs: Programs, output: str | None
) -> None:
    programs.say("ss ", out=output or "", code=0 if output else 127)
    findings = {f.check.split()[0]: f for f in cis.findings(Audit(shut, HOSTILE))}
    assert findings["2.7"].bad
