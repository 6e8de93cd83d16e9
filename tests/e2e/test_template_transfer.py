# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Templates through Debian's registry, to another owner and storage: hosts are forked at once, with
an identity of their own, and a derived generation sends a fraction.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from stockyard import ImageSpec, SingleSpec, TemplateInfo, TemplateSpec, Yard
from stockyard.model import codec
from tests.endpoint_suite import registry

from .conftest import TEMPLATE, WORK, ssh

pytestmark = [pytest.mark.real, pytest.mark.full]
CHILD = TemplateSpec("transferred", parent="docker", image=ImageSpec(packages=("tree",)))
# The part of the first generation that a derived one may send.
LARGEST_PART = 0.3
# Docker's registry of Debian, from the package, without an installation.
DOWNLOAD = ("apt-get", "download", "--quiet", "docker-registry")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return Debian's registry."""
    if installed := shutil.which("docker-registry"):
        return Path(installed)
    folder = tmp_path_factory.mktemp("registry-package")
    subprocess.run(DOWNLOAD, cwd=folder, check=True, capture_output=True)
    (package,) = folder.glob("*.deb")
    subprocess.run(["dpkg-deb", "--extract", package, folder / "root"], check=True)
    return folder / "root/usr/bin/docker-registry"


@pytest.fixture(scope="module")
def place(program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with registry.serving(program, tmp_path_factory.mktemp("registry")) as port:
        yield f"http://127.0.0.1:{port}/team/docker"


@pytest.fixture(scope="module")
def target(yard: Yard, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    """A yard of another owner, with another storage and other keys."""
    folder = tmp_path_factory.mktemp("target")
    with Yard(
        "qemu:///session",
        owner=f"{yard.context.owner[:20]}-second",
        storage=str(WORK / "second-store"),
        pki_dir=str(folder / "pki"),
    ) as opened:
        opened.teardown(templates=True)
        yield opened
        opened.teardown(templates=True)
        shutil.rmtree(WORK / "second-store")


def test_pulled_template_is_forked_at_once_with_an_identity_of_its_own(
    yard: Yard, template: TemplateInfo, target: Yard, place: str
) -> None:
    pushed = yard.templates.push("docker", place).object
    assert not yard.templates.push("docker", place).changed
    pulled = target.templates.pull(pushed.location, trusted_keys=(pushed.key,)).object
    assert (pulled.generation, pulled.usable, pulled.drift) == (template.generation, True, ())
    assert not target.templates.apply(TEMPLATE, check=True).changed
    first = yard.hosts.apply(SingleSpec("original", "docker")).object
    second = target.hosts.apply(SingleSpec("travelled", "docker")).object
    assert (second.mode, second.mode_reason) == ("instant", "")
    names = {ssh(host, "hostname").stdout.strip() for host in (first, second)}
    assert names == {"original", "travelled"}
    for command in ("cat /etc/machine-id", "cat /etc/ssh/ssh_host_ed25519_key.pub"):
        assert ssh(first, command).stdout != ssh(second, command).stdout
    assert ssh(second, "docker info --format '{{.ServerVersion}}'").stdout.strip()


def test_derived_generation_sends_a_fraction(
    yard: Yard, template: TemplateInfo, target: Yard, place: str
) -> None:
    first = yard.templates.push("docker", place).object
    yard.templates.apply(CHILD)
    derived = yard.templates.push("transferred", place).object
    assert derived.sent_bytes < LARGEST_PART * first.total_bytes, codec.to_dict(derived)
    target.templates.pull(derived.location, trusted_keys=(first.key,))
    host = target.hosts.apply(SingleSpec("second", "transferred")).object
    assert host.mode == "instant"
    assert ssh(host, "tree --version").stdout.startswith("tree")
