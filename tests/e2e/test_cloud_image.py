# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cloud image becomes a template, and its forks are ordinary hosts. cloud_image.py contains the
stand-in for an image.
"""

from __future__ import annotations

import hashlib
import tarfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from stockyard import CloudImage, FleetSpec, HostInfo, ImageError, InvalidInput, TemplateSpec, Yard
from stockyard.model.preload import Preload

from . import cloud_image
from .conftest import TEMPLATE, WORK, Docker, ssh

pytestmark = [pytest.mark.real, pytest.mark.full]
KEPT = WORK / "cloud"


def digest(path: Path) -> str:
    with path.open("rb") as handle:
        return f"sha256:{hashlib.file_digest(handle, 'sha256').hexdigest()}"


@pytest.fixture(scope="module")
def disk(yard: Yard) -> Path:
    """The cloud image's stand-in."""
    begin = time.monotonic()
    image_file = cloud_image.image(KEPT)
    print(
        f"stand-in created in {time.monotonic() - begin:.0f} s: {image_file.stat().st_size >> 20} "
        f"MiB"
    )
    return image_file


def declared(disk: Path) -> TemplateSpec:
    """A template that has something of every kind put into the image."""
    rootfs = KEPT / "data.tar"
    with tarfile.open(rootfs, "w") as archive:
        archive.addfile(tarfile.TarInfo("data"))
    image = replace(
        TEMPLATE.image,
        suite="bookworm",
        cloud_image=CloudImage(str(disk), digest(disk)),
        files={"/etc/declared": "it was declared\n"},
        preload=(Preload("rootfs", str(rootfs), "data:1"),),
        commands=("echo ran > /etc/commanded",),
    )
    return replace(TEMPLATE, name="cloudy", image=image)


@pytest.fixture(scope="module")
def spec(disk: Path) -> TemplateSpec:
    return declared(disk)


@pytest.fixture(scope="module")
def hosts(yard: Yard, spec: TemplateSpec) -> Iterator[list[HostInfo]]:
    begin = time.monotonic()
    built = yard.templates.apply(spec).objects[-1]
    print(f"having a template of it took {time.monotonic() - begin:.0f} s:", built.sizes)
    yield list(yard.fleets.apply(FleetSpec("cloudy", "cloudy", count=2)).objects)
    yard.fleets.delete("cloudy")


def test_forks_of_a_cloud_image_are_hosts(
    hosts: list[HostInfo], docker: Docker, busybox: bytes
) -> None:
    for host in hosts:
        assert b"data:1" in docker(host, "images", "--format", "{{.Repository}}:{{.Tag}}").stdout
        docker(host, "import", "-", "base:1", stdin=busybox)
        assert host.mode == "instant"
        output = docker(
            host, "run", "--rm", "--pull", "never", "base:1", "/bin/echo", "from a container"
        ).stdout
        assert output == b"from a container\n"
        lines = ssh(
            host,
            "cat /etc/of-the-image /etc/declared /etc/commanded; hostname; sudo id -u; "
            "cat /etc/machine-id",
        )
        assert lines.returncode == 0, lines.stderr
        assert lines.stdout.splitlines()[:5] == [
            "it was in the cloud image",
            "it was declared",
            "ran",
            host.name,
            "0",
        ]
    keys = {ssh(host, "cat /etc/ssh/ssh_host_*_key.pub /etc/machine-id").stdout for host in hosts}
    assert len(keys) == len(hosts)


def test_forks_of_a_cloud_image_boot_its_disk_and_kernel(hosts: list[HostInfo]) -> None:
    output = ssh(
        hosts[0],
        "findmnt -n -o SOURCE,SIZE --bytes /; cat /proc/cmdline; ls /lib/modules; uname -r",
    ).stdout
    first, cmdline, *kernels = output.splitlines()
    assert first.split()[0] == "/dev/vda1"
    assert int(first.split()[1]) > 7 << 30, "cloud-init grew its root file system to disk_gib"
    assert f"root=UUID={cloud_image.UUID}" in cmdline
    assert set(kernels) == {kernels[-1]}


def test_cloud_init_ran_once_and_never_again(hosts: list[HostInfo]) -> None:
    host = hosts[0]
    assert ssh(host, "cloud-init status").stdout == "status: disabled\n"
    units = "cloud-init-local cloud-init cloud-config cloud-final"
    assert set(ssh(host, f"systemctl is-active {units}").stdout.split()) == {"inactive"}
    assert ssh(host, "ls /var/lib/cloud/instances").stdout == "stockyard\n"
    assert (
        ssh(host, "sudo grep -c \"running 'init-local'\" /var/log/cloud-init.log").stdout == "1\n"
    )
    assert ssh(host, "ls /var/lib/cloud/instance/boot-finished").returncode == 0, (
        "it came to its end"
    )


def test_services_of_the_image_do_not_disturb_the_agent(hosts: list[HostInfo]) -> None:
    """No network service, no access besides stockyard's, no login of cloud-init, no failed unit."""
    host = hosts[0]
    active = ssh(
        host, "systemctl is-active systemd-networkd systemd-resolved; cat /etc/resolv.conf"
    ).stdout
    assert active.split() == [
        "inactive",
        "inactive",
        "nameserver",
        "10.0.2.15",
        "options",
        "timeout:1",
        "attempts:1",
    ]
    sshd = ssh(
        host, "sudo sshd -T | grep -E '^(permitrootlogin|passwordauthentication|allowusers) '"
    ).stdout
    assert sorted(set(sshd.splitlines())) == [
        "allowusers stockyard",
        "passwordauthentication no",
        "permitrootlogin no",
    ]
    assert ssh(host, "getent passwd debian").returncode != 0
    assert ssh(host, "test -e /usr/sbin/policy-rc.d").returncode != 0
    assert ssh(host, "systemctl list-units --failed --plain --no-legend").stdout == ""


def test_a_second_run_changes_nothing(yard: Yard, spec: TemplateSpec, disk: Path) -> None:
    assert not yard.templates.apply(spec).changed
    elsewhere = disk.with_name("elsewhere.qcow2")
    elsewhere.unlink(missing_ok=True)
    elsewhere.hardlink_to(disk)
    moved = replace(spec, image=replace(spec.image, cloud_image=CloudImage(str(elsewhere))))
    assert not yard.templates.apply(moved).changed
    elsewhere.unlink()


@pytest.mark.parametrize("changed", ["checksum", "content", "missing", "size", "backing"])
def test_invalid_cloud_image_is_refused_before_any_change(
    yard: Yard, spec: TemplateSpec, disk: Path, tmp_path: Path, changed: str
) -> None:
    bad = tmp_path / "bad.qcow2"
    # An image in the store with its checksum is not fetched again.
    cloud, gib = CloudImage(str(bad), "sha256:" + "1" * 64), 8
    if changed == "checksum":
        cloud = CloudImage(str(disk), "sha512:" + "0" * 128)
    elif changed == "content":
        bad.write_bytes(b"QFI\xfb" + bytes(1 << 20))
    elif changed == "size":
        cloud, gib = CloudImage(str(disk)), 2
    elif changed == "backing":
        cloud_image.overlay(bad, disk)
        cloud = CloudImage(str(bad))
    images = sorted(p.name for p in (WORK / "store" / "images").iterdir() if len(p.name) == 64)
    image = replace(spec.image, cloud_image=cloud, disk_gib=gib, files={"/etc/what": changed})
    expected = {
        "checksum": "the image's sha512 is",
        "content": "the image's sha256 is",
        "missing": "the image cannot be fetched",
        "size": "declare disk_gib: 3",
        "backing": "the cloud image is incomplete",
    }[changed]
    with pytest.raises((ImageError, InvalidInput), match=expected):
        yard.templates.apply(replace(spec, name="never", image=image))
    assert yard.templates.list(name="never") == ()
    assert (
        sorted(p.name for p in (WORK / "store" / "images").iterdir() if len(p.name) == 64) == images
    )


def test_wrong_suite_is_reported_by_the_guest(yard: Yard, spec: TemplateSpec) -> None:
    """And so is whatever else its first boot ends with: the error holds the end of its console."""
    image = replace(spec.image, suite="trixie", preload=())
    with pytest.raises(
        ImageError, match="the cloud image's first boot failed before its end"
    ) as failed:
        yard.templates.apply(replace(spec, name="never", image=image))
    assert "what is declared is Debian's trixie" in failed.value.cause
    assert yard.templates.list(name="never") == ()
    assert not list((WORK / "store" / "images").glob("work-*/first.qcow2"))
