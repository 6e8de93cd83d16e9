# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks of the page on registries: a registry and a mirror in a host, and images that are
built there.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from stockyard import HostSpec, ImageSpec, SingleSpec, TemplateInfo, Yard
from tests.integration.conftest import Controller, Played

from .conftest import OWNER, TEMPLATE, WORK, ssh
from .guest_controller import OnGuests
from .test_vsphere_template import inventory

pytestmark = [pytest.mark.real, pytest.mark.full]
PUSH, MIRROR = 5000, 5001
SPEC = replace(
    TEMPLATE,
    name="registry",
    image=ImageSpec(packages=(*TEMPLATE.image.packages, "docker-registry")),
)
# The work that a cache saves: it takes this long each time.
SLOW = 25
DOCKERFILE = f"""\
FROM scratch
ADD rootfs.tar /
RUN ["/bin/sleep", "{SLOW}"]
COPY said /said
CMD ["/bin/cat", "/said"]
"""
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Controller:
    return OnGuests(tmp_path_factory.mktemp("user"))


@pytest.fixture(scope="module")
def registry(yard: Yard, controller: Controller) -> Iterator[str]:
    """Where the registry answers: in a host, which publishes its ports."""
    yard.templates.apply(SPEC)
    spec = SingleSpec("registry", template="registry", host=HostSpec(ports=(PUSH, MIRROR)))
    (host,) = yard.hosts.apply(spec).objects
    hosts = controller.root / "registry.json"
    hosts.write_text(json.dumps(inventory(host)))
    variables = {
        "registry_on": "all",
        "registry_address": "0.0.0.0",  # noqa: S104
        "registry_mirror_of": f"http://127.0.0.1:{PUSH}",
    }
    line = ("stockyard.container_hosts.registry", "-i", hosts, "-e", json.dumps(variables))
    first = controller.run(*line)
    assert first.returncode == 0, first.output
    second_run = controller.run(*line)
    assert "changed=0 " in second_run.stdout, second_run.output
    yield str(host.ssh.host)
    ssh(host, "sudo journalctl --no-pager -u 'stockyard-registry-*' | tail -20")
    yard.hosts.delete("registry")
    yard.templates.delete("registry")


@pytest.fixture
def context(tmp_path: Path, busybox: bytes) -> Path:
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "Dockerfile").write_text(DOCKERFILE)
    (folder / "rootfs.tar").write_bytes(busybox)
    (folder / "said").write_text("first\n")
    return folder


def build(controller: Controller, context: Path, registry: str, image: str) -> tuple[Played, float]:
    declared = controller.root / "yard.json"
    where = {"yard_owner": OWNER, "yard_storage": f"{WORK}/store", "yard_pki_dir": f"{WORK}/pki"}
    declared.write_text(json.dumps({**where, "yard_hypervisor": "qemu:///session"}))
    variables = {
        "yard": str(declared),
        "build_context": str(context),
        "build_image": image,
        "build_registry": f"{registry}:{PUSH}",
    }
    begin = time.monotonic()
    result = controller.run(
        "stockyard.container_hosts.build_push_dispose", "-e", json.dumps(variables)
    )
    return result, time.monotonic() - begin


def layers(registry: str, port: int, image: str, tag: str) -> list[str]:
    connection = http.client.HTTPConnection(registry, port, timeout=60)
    try:
        connection.request("GET", f"/v2/{image}/manifests/{tag}", headers={"Accept": MANIFEST})
        return [layer["digest"] for layer in json.load(connection.getresponse())["layers"]]
    finally:
        connection.close()


def test_the_second_build_is_faster_by_the_cache(
    yard: Yard, template: TemplateInfo, controller: Controller, registry: str, context: Path
) -> None:
    first, cold = build(controller, context, registry, "team/app:1")
    assert first.returncode == 0, first.output
    (context / "said").write_text("second\n")
    second, warm = build(controller, context, registry, "team/app:2")
    assert second.returncode == 0, second.output
    print(f"build, push, dispose: {cold:.1f} s, and {warm:.1f} s with the layers of the last build")
    assert "without the layers" in first.stdout
    assert "with the layers" in second.stdout
    assert warm < cold - SLOW / 2
    old, new = layers(registry, PUSH, "team/app", "1"), layers(registry, PUSH, "team/app", "2")
    assert old[:-1] == new[:-1]
    assert old[-1] != new[-1]
    assert layers(registry, MIRROR, "team/app", "2") == new
    assert [h.name for h in yard.hosts.list() if h.name.startswith("build-")] == []


def test_failed_build_deletes_its_host(
    yard: Yard, template: TemplateInfo, controller: Controller, registry: str, context: Path
) -> None:
    (context / "Dockerfile").write_text(
        'FROM scratch\nADD rootfs.tar /\nRUN ["/bin/no-such-program"]\n'
    )
    failed, _took = build(controller, context, registry, "team/broken:1")
    assert failed.returncode != 0
    assert "no-such-program" in failed.output
    assert [h.name for h in yard.hosts.list() if h.name.startswith("build-")] == []
