# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""apt, pip and Docker use the way out of a host, in a login, in a container and in a build, with
each egress that has one. All other machines are in a second namespace, and nothing leaves both.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import Any

import pytest

from stockyard import TemplateInfo

from . import private_libvirt

pytestmark = [pytest.mark.real, pytest.mark.full]
Facts = dict[str, dict[str, list[Any]]]
PLACES, EGRESSES = ("login", "container", "build"), ("open", "allow", "proxy")
SCRIPT = """
import base64, shlex
from tests.e2e import package_repository, registry_stand_in
from tests.helpers import uplink_allow_lab, uplink_lab

home = Path(os.environ["PRIVATE_HOME"])
os.environ["LAB"] = str(home)
os.environ["PATH"] += ":/usr/sbin:/sbin"
# Each program has a mirror in its settings, as a user configures it.
APT = ("apt-get -q update && apt-get -q install -y --reinstall trinket"
    " && cat /usr/share/trinket")
PIP = ("PYTHONPATH=/opt/pip.zip python3 -m pip download --quiet --no-deps --no-cache-dir"
    " --dest /opt --timeout 60 --trusted-host packages.example.org"
    " --index-url http://packages.example.org:8000/index/simple/ trinket && ls /opt/*.whl")
PIP_ARCHIVE = base64.b64encode(Path(os.environ["PIP_WHEEL"]).read_bytes()).decode()
SETTINGS = ("rm -rf /etc/apt/sources.list.d/*; echo 'deb [trusted=yes]"
    " http://packages.example.org:8000/ ./' >/etc/apt/sources.list; base64 -d >/opt/pip.zip")
# The programs of the host that an image needs for apt and pip.
IMAGE = ("cd / && tar -c --exclude=dist-packages --exclude=__pycache__ --exclude=test"
    " --exclude='tmp/*' bin lib lib64 sbin tmp opt"
    " etc/apt etc/passwd etc/group etc/ssl etc/debian_version"
    " usr/bin/apt* usr/bin/dpkg* usr/bin/tar usr/bin/sh usr/bin/dash usr/bin/cat usr/bin/ls"
    " usr/bin/rm usr/bin/env usr/bin/gpgv* usr/bin/sqv* usr/bin/python3*"
    " usr/sbin/ldconfig usr/sbin/start-stop-daemon"
    " usr/lib/apt usr/lib/python3* usr/lib64 usr/lib/x86_64-linux-gnu/*.so*"
    " usr/lib/x86_64-linux-gnu/perl-base usr/bin/perl usr/share/dpkg var/lib/dpkg var/lib/apt"
    " var/cache/apt/archives/partial"
    " | docker import -c 'ENV PATH=/usr/sbin:/usr/bin' - debian")

def run(host, command, stdin=None):
    result = ssh(host, "sudo", "sh", "-c", shlex.quote(command), stdin=stdin, timeout=900)
    return [result.returncode, (result.stderr + result.stdout)[-600:]]

def published():
    repository = package_repository.LocalRepository(home / "repository")
    repository.publish("trinket", "1.0", {"usr/share/trinket": "from elsewhere"})
    uplink_allow_lab.publish(repository.folder)
    return repository

def used(host, certificate):
    facts = {"settings": run(host, SETTINGS, stdin=PIP_ARCHIVE)}
    for folder in ("registry.example.org", "registry.example.org:5000"):
        folder = f"/etc/docker/certs.d/{folder}"
        run(host, f"mkdir -p {folder} && cat >{folder}/ca.crt", stdin=certificate)
    facts["pull"] = run(host, "docker pull registry.example.org:5000/team/app")
    facts["image"] = run(host, IMAGE)
    build = "FROM debian\\nRUN {}\\nRUN {}\\n".format(APT, PIP)
    facts["login apt"], facts["login pip"] = run(host, APT), run(host, PIP)
    for name, command in (("apt", APT), ("pip", PIP)):
        facts[f"container {name}"] = run(host, f'docker run --rm debian sh -c "{command}"')
    facts["build"] = run(host, "docker build --no-cache -", stdin=build)
    return facts

found = {}
with uplink_lab.other_namespace() as far_side:
    uplink_lab.build_hypervisor(far_side)
    pem, certificate = registry_stand_in.certificate(home, "registry.example.org")
    repository = published()
    programs = (
        [sys.executable, "-c", registry_stand_in.TLS_PROGRAM, uplink_lab.OTHER, "5000", str(pem)],
        [sys.executable, "-m", "http.server", "8000", "--directory",
            str(repository.folder)],
        [sys.executable, "-m", "tests.helpers.forward_proxy", uplink_lab.OTHER, "3128"],
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path[:2])}
    servers = [subprocess.Popen(uplink_lab.inside(far_side, *program), env=environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for program in programs]
    servers.append(subprocess.Popen([sys.executable, "-c", uplink_lab.NAME_SERVER_PROGRAM]))
    hosts = {
        "open": HostSpec(egress="open"),
        "allow": HostSpec(egress="allow", egress_allow=(
            "registry.example.org:5000", "packages.example.org:8000")),
        "proxy": HostSpec(egress="proxy", egress_proxy=f"{uplink_lab.OTHER}:3128"),
    }
    with open_yard() as yard:
        for egress, spec in hosts.items():
            host = yard.hosts.apply(SingleSpec("out", "docker", host=spec)).object
            found[egress] = used(host, certificate)
            yard.hosts.delete("out")
    for server in servers:
        server.kill()
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def facts(template: TemplateInfo, tmp_path_factory: pytest.TempPathFactory) -> Facts:
    """Return the outcome of each program in each place with each egress."""
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("/dev/net/tun may not be opened by this user (udev gives it 0666)")
    for program in ("slirp4netns", "nft", "ip", "openssl", "haproxy"):
        if not shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin"):
            pytest.skip(f"{program} is not installed: run `make setup`")
    folder = tmp_path_factory.mktemp("ways-out")
    # The guest's Python is later than that of this process, and needs a pip that knows it.
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    subprocess.run([*download, "--dest", str(folder), "pip"], check=True)
    os.environ["PIP_WHEEL"] = str(next(folder.glob("pip-*.whl")))
    result: Facts = private_libvirt.run(folder, SCRIPT, own_network=True, timeout=3000)
    print(result)
    return result


@pytest.mark.parametrize("egress", EGRESSES)
def test_docker_pulls_from_a_registry(facts: Facts, egress: str) -> None:
    assert facts[egress]["pull"][0] == 0, facts[egress]["pull"]


@pytest.mark.parametrize("egress", EGRESSES)
@pytest.mark.parametrize("place", PLACES)
def test_apt_and_pip_fetch_packages(facts: Facts, egress: str, place: str) -> None:
    outcomes = facts[egress]
    assert outcomes["image"][0] == 0, outcomes["image"]
    if place == "build":
        assert outcomes["build"][0] == 0, outcomes["build"]
    else:
        assert outcomes[f"{place} apt"][0] == 0, outcomes[f"{place} apt"]
        assert "from elsewhere" in outcomes[f"{place} apt"][1]
        assert outcomes[f"{place} pip"][0] == 0, outcomes[f"{place} pip"]
        assert "trinket-1.0-py3-none-any.whl" in outcomes[f"{place} pip"][1]
