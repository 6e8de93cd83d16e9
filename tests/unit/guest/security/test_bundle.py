# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a security profile in a host."""

from __future__ import annotations

import ast
import ipaddress
import json
import subprocess
import sys
from pathlib import Path

import pytest

from stockyard import ImageSpec, InvalidInput, TemplateSpec
from stockyard.guest.recipe import LINK, declared_digest, recipe
from stockyard.guest.security import (
    MARKER,
    addresses,
    authorization,
    bundle,
    daemon,
    disk,
    firewall,
    kernel,
    limits,
    rootless,
)
from stockyard.model import codec
from stockyard.model.security import PROFILES, SecuritySpec, Settings

ROOTLESS = SecuritySpec("hostile", user_namespaces="rootless")
VARIANTS = [
    *map(SecuritySpec, PROFILES),
    ROOTLESS,
    SecuritySpec("trusted", user_namespaces="remap"),
]


def made(spec: SecuritySpec) -> dict[str, str]:
    return {path: file.text for path, file in recipe(ImageSpec(), "running", spec).files.items()}


def test_each_security_setting_changes_the_digest() -> None:
    specs = [
        *VARIANTS,
        SecuritySpec("hostile", icc=True),
        SecuritySpec("hostile", limits={"pids": 7}),
        SecuritySpec("hostile", sysctls={"kernel.sysrq": "1"}),
        SecuritySpec("hostile", seccomp='{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": []}'),
        SecuritySpec("hostile", authorization=False),
    ]
    digests = {declared_digest(TemplateSpec("a", security=spec)) for spec in specs}
    assert len(digests) == len(specs)


def test_trusted_profile_adds_no_file() -> None:
    files = bundle(SecuritySpec().settings(), "me").files
    assert list(files) == [MARKER]
    assert bundle(SecuritySpec().settings(), "me").packages == ()


@pytest.mark.parametrize("spec", VARIANTS)
def test_bundle_contains_the_declared_profile(spec: SecuritySpec) -> None:
    assert codec.from_dict(Settings, json.loads(made(spec)[MARKER])) == spec.settings()


@pytest.mark.parametrize("spec", VARIANTS)
def test_each_enabled_unit_exists_and_is_wanted_once(spec: SecuritySpec) -> None:
    files = recipe(ImageSpec(), "running", spec).files
    for unit in bundle(spec.settings(), "me").enable:
        links = [p for p, f in files.items() if f.mode == LINK and p.endswith(f".wants/{unit}")]
        assert len(links) == 1
        assert files[files[links[0]].text].mode == 0o644


def test_hostile_profile_has_the_documented_settings() -> None:
    files = made(SecuritySpec("hostile"))
    settings = json.loads(files[daemon.PATH])
    assert settings["userns-remap"] == "dockremap"
    assert settings["authorization-plugins"] == ["stockyard-authz"]
    assert (settings["icc"], settings["userland-proxy"], settings["no-new-privileges"]) == (
        False,
        False,
        True,
    )
    assert settings["log-opts"] == {"max-file": "3", "max-size": "10m"}
    assert files["/etc/subuid"] == "dockremap:100000:65536\n"
    assert "TasksMax=2048\nMemoryMax=75%\n" in files[f"/etc/systemd/system/{limits.SLICE}"]
    assert (
        "TasksMax=512\nMemoryMax=50%\n"
        in files["/etc/systemd/system/docker-.scope.d/10-stockyard.conf"]
    )
    assert "limit rate over 64 mbytes/second drop" in files[firewall.RULES]
    assert "policy drop" in files[firewall.RULES]
    assert "-kernel.unprivileged_userns_clone = 0\n" in files[kernel.SYSCTL]


def test_containers_have_a_disk_of_their_own_unless_they_have_a_volume() -> None:
    files = made(SecuritySpec("hostile"))
    assert "$1 * 60 / 100" in files[disk.PROGRAM]
    assert f"Requires={disk.UNIT}\n" in files["/etc/systemd/system/docker.service.d/disk.conf"]
    for spec, docker in (
        (SecuritySpec("hostile"), "stopped"),
        (ROOTLESS, "running"),
        (SecuritySpec(), "running"),
    ):
        assert disk.PROGRAM not in recipe(ImageSpec(), docker, spec).files


def test_docker_disk_is_formatted_once_and_never_over_data(tmp_path: Path) -> None:
    """The script with stand-ins for what needs root; each says what it was asked for."""
    tools, root, log = tmp_path / "tools", tmp_path / "docker", tmp_path / "log"
    tools.mkdir()
    script = f'echo "${{0##*/}} $*" >> {log}'
    for name, act in (
        ("mountpoint", "exit 1"),
        ("mkfs.ext4", script),
        ("mount", script),
        ("df", "echo '8000 6000'"),
    ):
        (tools / name).write_text(f"#!/bin/sh\n{act}\n")
        (tools / name).chmod(0o755)
    image = tmp_path / "state" / "docker.ext4"
    text = (
        made(SecuritySpec("hostile"))[disk.PROGRAM]
        .replace(disk.IMAGE, str(image))
        .replace(disk.ROOT, str(root))
    )

    def run() -> list[str]:
        log.write_text("")
        path = {"PATH": f"{tools}:/usr/bin:/bin"}
        subprocess.run(["/bin/sh", "-c", text], check=True, env=path)
        return [line.split()[0] for line in log.read_text().splitlines()]

    assert run() == ["mkfs.ext4", "mount"]
    assert image.stat().st_size == 4800 << 20
    assert image.stat().st_blocks == 0
    assert run() == ["mount"]
    image.unlink()
    (root / "image").mkdir()
    assert run() == []
    assert not image.exists()


def test_frames_are_dropped_where_containers_do_not_reach_each_other() -> None:
    assert 'meta ibrname "docker0" drop' in made(SecuritySpec("shared"))[firewall.BRIDGE]
    assert "ibrname" not in made(SecuritySpec("shared", icc=True))[firewall.BRIDGE]


def test_a_rootless_host_reads_its_own_configuration() -> None:
    files = made(ROOTLESS)
    settings = json.loads(files["/etc/docker/rootless.json"])
    assert "userns-remap" not in settings
    assert "cgroup-parent" not in settings
    assert f"ConditionUser={rootless.USER}" in files["/etc/systemd/user/docker.service"]
    assert "-kernel.unprivileged_userns_clone = 1\n" in files[kernel.SYSCTL]
    assert f"m stockyard {rootless.USER}" in files["/etc/sysusers.d/stockyard-rootless.conf"]
    assert files["/etc/systemd/system/docker.socket"] == "/dev/null"
    assert settings["group"] == "root"
    assert files[f"{rootless.FOLDER}/dockerd"].startswith("#!/bin/sh\n")
    assert f"PATH={rootless.FOLDER}:" in files["/etc/systemd/user/docker.service"]


def test_kernel_settings_of_the_user_override_the_profile() -> None:
    files = made(SecuritySpec("hostile", sysctls={"kernel.sysrq": "438"}))
    assert "-kernel.sysrq = 438\n" in files[kernel.SYSCTL]
    assert files[kernel.SYSCTL].count("kernel.sysrq") == 1


def test_a_users_file_cannot_undo_a_profile_unseen() -> None:
    with pytest.raises(InvalidInput, match="part of the security profile"):
        recipe(ImageSpec(files={daemon.PATH: "{}"}), "running", SecuritySpec("hostile"))


def test_the_plugin_in_the_image_needs_nothing_of_the_sdk(tmp_path: Path) -> None:
    prefix = "/usr/lib/stockyard/stockyard_authz/"
    folder = tmp_path / "stockyard_authz"
    folder.mkdir()
    for path, text in made(SecuritySpec("hostile")).items():
        if path.startswith(prefix):
            ast.parse(text)
            (folder / path.removeprefix(prefix)).write_text(text)
    check = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import stockyard_authz.server as m;"
        "assert m.main and not [n for n in sys.modules if n == 'stockyard' or "
        "n.startswith('stockyard.')]"
    )
    subprocess.run([sys.executable, "-I", "-c", check], check=True, timeout=60)


def test_plugin_of_another_release_is_another_generation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts with the plugin are replaced by the next run of ``site``, and ``site --check`` reports
    it.
    """
    specs = [
        TemplateSpec("a", security=SecuritySpec(profile))
        for profile in ("trusted", "shared", "hostile")
    ]
    before = [declared_digest(spec) for spec in specs]
    source = authorization._source
    monkeypatch.setattr(authorization, "_source", lambda module: source(module) + "# older\n")
    after = [declared_digest(spec) for spec in specs]
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, True, False]


@pytest.mark.parametrize("spec", [*VARIANTS, SecuritySpec()])
def test_docker_takes_addresses_from_the_pools_in_every_profile(spec: SecuritySpec) -> None:
    path = daemon.ROOTLESS if spec.user_namespaces == "rootless" else daemon.PATH
    assert (
        json.loads(made(spec)[path])["default-address-pools"]
        == addresses.KEYS["default-address-pools"]
    )


def test_pools_meet_no_network_that_hosts_are_given() -> None:
    networks = (
        "10.0.2.0/24",
        "192.168.122.0/24",
        "169.254.0.0/16",
        "127.0.0.0/8",
        "fe80::/10",
        "fec0::/64",
        "::1/128",
    )
    assert [net for net in networks if addresses.meeting(ipaddress.ip_network(net))] == []
    assert addresses.meeting(ipaddress.ip_network("172.16.0.0/12")) == "172.17.0.0/16"
