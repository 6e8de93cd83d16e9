# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Templates that are warm and small, and hosts that grow and shrink while a container
runs in them.
"""

from __future__ import annotations

import io
import random
import tarfile
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from stockyard import (
    FleetSpec,
    HostInfo,
    HostSpec,
    ImageSpec,
    TemplateInfo,
    TemplateSpec,
    Unsupported,
    Yard,
)
from stockyard.model.preload import Preload
from stockyard.model.security import SecuritySpec
from tests.helpers.values import present

from .conftest import TEMPLATE, WORK, Docker, busybox_root, client, ssh

pytestmark = pytest.mark.real
# MB of what no compression makes smaller.
FILLER = 300
# Debian 13 with Docker 26: 278 to 301 MiB were measured; the rehearsal fills most of them.
LARGEST_RAM = 340e6 / (1 << 20)
FLEET = FleetSpec("roomy", "roomy", count=1)
GROWN = replace(FLEET, host=HostSpec(vcpus=2, memory_mib=1280))


CONTEXT = WORK / "preload" / "context"
ROOTFS = WORK / "preload" / "filler.tar"


def filled() -> None:
    """Put down a root file system of 300 MB, and something that is built on it: the
    same each time.
    """
    CONTEXT.mkdir(parents=True, exist_ok=True)
    (CONTEXT / "Dockerfile").write_text(
        'FROM filler:1\nCOPY said /said\nCMD ["/bin/cat", "/said"]\n'
    )
    (CONTEXT / "said").write_text("built in the template\n")
    if not ROOTFS.exists():
        half = ROOTFS.with_suffix(".half")
        with (
            tarfile.open(half, "w") as archive,
            tarfile.open(fileobj=io.BytesIO(busybox_root(client()))) as source,
        ):
            for member in source:
                archive.addfile(member, source.extractfile(member) if member.isreg() else None)
            entry = tarfile.TarInfo("filler")
            entry.size = FILLER * 1000 * 1000
            archive.addfile(entry, _Noise())
        half.rename(ROOTFS)


class _Noise(io.RawIOBase):
    def __init__(self) -> None:
        self.draw = random.Random(FILLER)  # noqa: S311  # to be drawn again, not to be secret

    def read(self, count: int = -1) -> bytes:
        return self.draw.randbytes(count)


def roomy_template() -> TemplateSpec:
    """With images in it, and room for more of everything."""
    filled()
    preload = (
        Preload("rootfs", str(ROOTFS), "filler:1"),
        Preload("build", str(CONTEXT), "built:1"),
    )
    commands = ("docker image inspect built:1 >/dev/null", "echo was-here > /etc/was-here")
    image = ImageSpec(
        packages=TEMPLATE.image.packages, preload=preload, commands=commands, runtime="crun"
    )
    shut = SecuritySpec(limits={"memory_percent": 75, "container_memory_percent": 50})
    return replace(TEMPLATE, name="roomy", image=image, max_memory_mib=2048, security=shut)


PREPARED = (roomy_template,)


@pytest.fixture(scope="module")
def roomy(yard: Yard, template: TemplateInfo) -> Iterator[HostInfo]:
    """A host of that template, into which more can be plugged."""
    spec = roomy_template()
    begin = time.monotonic()
    built = yard.templates.apply(spec).objects[-1]
    print(
        f"having a template with {FILLER} MB preloaded took {time.monotonic() - begin:.0f} s:",
        built.sizes,
    )
    assert not yard.templates.apply(spec).changed
    yield yard.fleets.apply(FLEET).objects[0]
    yard.fleets.delete("roomy")


def test_ram_file_contains_no_free_memory(template: TemplateInfo) -> None:
    print("a template of 1 GiB:", template.sizes)
    assert 0 < present(template.sizes).ram_mib < LARGEST_RAM
    assert 0 < present(template.sizes).state_mib < 8


def test_fork_has_the_preloaded_images(roomy: HostInfo, docker: Docker) -> None:
    listed = docker(
        roomy, "images", "--format", "{{.Repository}}:{{.Tag}} {{.Size}}"
    ).stdout.decode()
    print(listed)
    assert {line.split()[0] for line in listed.splitlines()} == {"filler:1", "built:1"}
    begin = time.monotonic()
    assert (
        docker(roomy, "run", "--rm", "--pull", "never", "built:1").stdout
        == b"built in the template\n"
    )
    print(f"its first container took {time.monotonic() - begin:.1f} s")
    runtime = docker(roomy, "info", "--format", "{{.DefaultRuntime}}").stdout
    assert runtime == b"crun\n"
    assert ssh(roomy, "cat", "/etc/was-here").stdout == "was-here\n"


def figures(host: HostInfo) -> tuple[int, int]:
    """Processors, and MiB of memory, as the guest sees them."""
    words = ssh(host, "nproc; grep MemTotal /proc/meminfo").stdout.split()
    return int(words[0]), int(words[2]) // 1024


def limits(host: HostInfo) -> tuple[int, int]:
    """MiB that all containers may have, and that the one which runs may have."""
    under = "/sys/fs/cgroup/stockyard.slice/stockyard-containers.slice"
    words = ssh(host, f"cat {under}/memory.max {under}/docker-*.scope/memory.max").stdout.split()
    return int(words[0]) >> 20, int(words[1]) >> 20


def settled(host: HostInfo, vcpus: int, least: int, most: int) -> None:
    """Wait until the guest has taken note."""
    end = time.monotonic() + 30
    current = figures(host)
    while (current[0] != vcpus or not least < current[1] < most) and time.monotonic() < end:
        time.sleep(1)
        current = figures(host)
    assert current[0] == vcpus, current
    assert least < current[1] < most, current


STARTED = "{{.State.StartedAt}} {{.State.Pid}}"


def test_a_host_grows_around_its_container(yard: Yard, roomy: HostInfo, docker: Docker) -> None:
    docker(roomy, "run", "--detach", "--name", "kept", "filler:1", "/bin/sleep", "3600")
    began = docker(roomy, "inspect", "kept", "--format", STARTED).stdout
    before, allowed = figures(roomy), limits(roomy)
    assert before[0] == 1
    assert allowed == pytest.approx((before[1] * 0.75, before[1] * 0.5), abs=2)
    with pytest.raises(Unsupported, match="maximum is 4 vCPUs"):
        yard.fleets.apply(replace(FLEET, host=HostSpec(vcpus=5)))
    with pytest.raises(Unsupported, match="steps of 128 MiB"):
        yard.fleets.apply(replace(FLEET, host=HostSpec(memory_mib=1100)))
    actions = [str(a) for a in yard.fleets.apply(GROWN, check=True).plan.actions]
    assert actions == ["resize host roomy-1: memory_mib, vcpus changed; the host keeps running"]
    begin = time.monotonic()
    (grown,) = yard.fleets.apply(GROWN).objects
    print(f"growing took {time.monotonic() - begin:.1f} s")
    settled(grown, 2, before[1] + 200, before[1] + 300)
    assert limits(grown) == pytest.approx(
        (figures(grown)[1] * 0.75, figures(grown)[1] * 0.5), abs=2
    )
    assert not yard.fleets.apply(GROWN).changed
    assert docker(roomy, "inspect", "kept", "--format", STARTED).stdout == began
    assert yard.hosts.list(fleet="roomy")[0].uuid == roomy.uuid


def test_a_host_shrinks_around_its_container(yard: Yard, roomy: HostInfo, docker: Docker) -> None:
    (grown,) = yard.fleets.apply(GROWN).objects
    before = figures(grown)
    docker(roomy, "run", "--detach", "--name", "left", "filler:1", "/bin/sleep", "3600")
    began = docker(roomy, "inspect", "left", "--format", STARTED).stdout
    begin = time.monotonic()
    (shrunk,) = yard.fleets.apply(FLEET).objects
    print(f"shrinking took {time.monotonic() - begin:.1f} s")
    settled(shrunk, 1, before[1] - 264, before[1] - 248)
    assert limits(shrunk) == pytest.approx(
        (figures(shrunk)[1] * 0.75, figures(shrunk)[1] * 0.5), abs=8
    )
    assert docker(roomy, "inspect", "left", "--format", STARTED).stdout == began
    assert yard.hosts.list(fleet="roomy")[0].uuid == roomy.uuid


@pytest.mark.full
def test_added_hardware_exists_after_a_boot(yard: Yard, roomy: HostInfo) -> None:
    (grown,) = yard.fleets.apply(GROWN).objects
    yard.hosts.restart("roomy-1", timeout=900)
    settled(grown, 2, 1150, 1300)
