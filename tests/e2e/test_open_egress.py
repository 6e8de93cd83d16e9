# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts with egress ``open`` and ``allow``, on a libvirt in a network of its own: all other
machines are in a second namespace, and nothing leaves both.
"""

from __future__ import annotations

import os
import shutil
from typing import Any

import pytest

from stockyard import TemplateInfo

from . import private_libvirt

pytestmark = pytest.mark.real
Facts = dict[str, Any]
PULL = "sudo docker pull registry.example.org:5000/team/app"
FETCH = "python3 -c 'import urllib.request as u; print(u.urlopen(\"{}\", timeout=20).status)'"
SCRIPT = """
import ssl
from stockyard import BranchSpec
from tests.e2e import registry_stand_in
from tests.e2e.package_repository import LocalRepository
from tests.helpers import uplink_attacks, uplink_lab

home = Path(os.environ["PRIVATE_HOME"])
os.environ["LAB"] = str(home)
os.environ["PATH"] += ":/usr/sbin:/sbin"
PULL, FETCH = os.environ["PULL"], os.environ["FETCH"]
SMALL = "http://packages.example.org:8000/small"
REGISTRY = registry_stand_in.TLS_PROGRAM
# Sends frames from a guest's card, as root.
SENDER = '''
import json, socket, sys, time
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
wire.bind((sys.argv[1], 0))
for frame in json.load(open("/tmp/frames")):
    wire.send(bytes.fromhex(frame))
    time.sleep(0.01)
'''

def packages():
    repository = LocalRepository(home / "repository")
    repository.publish("trinket", "1.0", {"usr/share/trinket": "from elsewhere"})
    (repository.folder / "small").write_text("small")
    return repository.folder

def run(host, command, stdin=None):
    result = ssh(host, command, stdin=stdin)
    return [result.returncode, (result.stderr + result.stdout)[-600:]]

def trust(host):
    folder = "/etc/docker/certs.d/registry.example.org"
    folders = f"{folder} {folder}:5000"
    command = f"sudo mkdir -p {folders} && sudo tee {folder}/ca.crt {folder}:5000/ca.crt >/dev/null"
    return run(host, command, stdin=certificate)

def attacked(host, card, source, sniffer):
    neighbour = ssh(host, "ip neigh show dev eth1").stdout.split()
    gateway = bytes.fromhex(neighbour[neighbour.index("lladdr") + 1].replace(":", ""))
    entries = uplink_attacks.ATTACKS + uplink_attacks.PERMITTED
    frames = [f.hex() for e in entries for f in uplink_attacks.frames(e, source, gateway)]
    sniffer.ports.clear()
    ssh(host, "cat >/tmp/frames", stdin=json.dumps(frames))
    sent = ssh(host, "sudo", "python3", "-", card, stdin=SENDER)
    time.sleep(2)
    names = [name for name, port in uplink_attacks.PORTS.items() if port in sniffer.ports]
    return [sent.returncode, sent.stderr, names]

found = {}
with uplink_lab.other_namespace() as far_side:
    uplink_lab.build_hypervisor(far_side)
    inside = uplink_lab.inside
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path[:2])}
    pem, certificate = registry_stand_in.certificate(home, "registry.example.org")
    servers = [
        subprocess.Popen(
            inside(far_side, sys.executable, "-c", REGISTRY, uplink_lab.OTHER, port, str(pem)),
            env=environment)
        for port in ("5000", "443")] + [
        subprocess.Popen(inside(far_side, sys.executable, "-m", "http.server", "8000",
            "--directory", str(packages())), stderr=subprocess.DEVNULL),
        subprocess.Popen([sys.executable, "-c", uplink_lab.NAME_SERVER_PROGRAM]),
    ]
    spec = SingleSpec("out", "docker", host=HostSpec(egress="open"))
    lines = []
    with open_yard() as yard:
        begin = time.monotonic()
        created = yard.hosts.apply(spec)
        host = created.objects[0]
        found["created"] = host.to_dict()["mode"], host.ready, time.monotonic() - begin
        trust(host)
        found["pull"] = run(host, PULL)
        found["apt"] = run(host, "echo 'deb [trusted=yes] http://packages.example.org:8000/ ./'"
            " | sudo tee /etc/apt/sources.list >/dev/null; sudo rm -rf /etc/apt/sources.list.d/*;"
            " sudo apt-get update && sudo apt-get install -y trinket && cat /usr/share/trinket")
        found["login"] = run(host, FETCH.format(SMALL))
        run(host, "tar -C / -c bin/busybox | sudo docker import - box")
        wget = f"/bin/busybox wget -T 20 -O - {SMALL}"
        found["container"] = run(host, f"sudo docker run --rm box {wget}")
        build = 'FROM box\\nRUN ["' + '","'.join(wget.split()) + '"]\\n'
        found["build"] = run(host, "sudo docker build -", stdin=build)
        found["denied"] = run(host, FETCH.format("http://10.9.8.7:8000/small"))
        sniffer = uplink_lab.Sniffer()
        found["attacks"] = attacked(host, "eth1", uplink_lab.uplink_rules.ADDRESS, sniffer)
        found["attacks on the first card"] = attacked(host, "eth0", "10.0.2.15", sniffer)
        found["again"] = yard.hosts.apply(spec).changed
        os.kill(uplink_lab._process("slirp4netns"), signal.SIGKILL)
        time.sleep(2)
        found["killed"] = uplink_lab.processes(), run(host, FETCH.format(SMALL))[0]
        yard.hosts.apply(spec)
        found["repaired"] = uplink_lab.processes(), run(host, FETCH.format(SMALL))
        yard.hosts.suspend("out")
        time.sleep(2)
        found["suspended"] = uplink_lab.processes()
        host = yard.hosts.resume("out").object
        found["resumed"] = uplink_lab.processes(), run(host, FETCH.format(SMALL))
        yard.hosts.branch(BranchSpec("out", ("child",)))
        child = next(h for h in yard.hosts.list() if h.name == "child")
        found["branched"] = uplink_lab.processes(), run(child, FETCH.format(SMALL)), run(
            host, FETCH.format(SMALL))
        yard.hosts.delete("child")
        time.sleep(3)
        found["child deleted"] = uplink_lab.processes()
        kill("qemu-system-x86")
        time.sleep(3)
        found["dead"] = uplink_lab.processes()
        yard.hosts.delete("out")
        named = SingleSpec("named", "docker", host=HostSpec(egress="allow", egress_allow=(
            "registry.example.org", "packages.example.org:8000")))
        host = yard.hosts.apply(named).objects[0]
        found["named"] = host.to_dict()["mode"], host.ready, uplink_lab.processes()
        trust(host)
        found["pull by name"] = run(host, PULL.replace(":5000", ""))
        found["pull by another name"] = run(host, PULL.replace("registry.", "mirror."))
        found["another port"] = run(host, PULL)
        found["fetch by name"] = run(host, FETCH.format(SMALL))
        found["fetch by another name"] = run(host, FETCH.format(SMALL.replace("packages", "files")))
        time.sleep(6)
        found["refused"] = yard.hosts.get("named").to_dict()["refused"]
        os.kill(uplink_lab._process("haproxy"), signal.SIGKILL)
        time.sleep(2)
        found["cut off"] = yard.hosts.get("named").to_dict()["drift"]
        yard.hosts.apply(named)
        found["not cut off"] = yard.hosts.get("named").to_dict()["drift"]
        yard.hosts.delete("named")
    for server in servers:
        server.kill()
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def facts(template: TemplateInfo, tmp_path_factory: pytest.TempPathFactory) -> Facts:
    """A host that uses its way out, attacks it, and loses it."""
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("/dev/net/tun may not be opened by this user (udev gives it 0666)")
    for program in ("slirp4netns", "nft", "ip", "openssl", "haproxy"):
        if not shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin"):
            pytest.skip(f"{program} is not installed: run `make setup`")
    os.environ.update(PULL=PULL, FETCH=FETCH)
    result: Facts = private_libvirt.run(
        tmp_path_factory.mktemp("open"), SCRIPT, own_network=True, timeout=900
    )
    return result


def test_docker_apt_and_containers_reach_other_machines(facts: Facts) -> None:
    assert facts["created"][:2] == ["instant", True], facts["created"]
    assert facts["pull"][0] == 0, facts["pull"]
    assert facts["apt"][0] == 0, facts["apt"]
    assert facts["apt"][1].endswith("from elsewhere"), facts["apt"]
    for name in ("login", "container", "build"):
        assert facts[name][0] == 0, (name, facts[name])


def test_attacks_of_root_stay_in_the_uplink(facts: Facts) -> None:
    assert facts["attacks"] == [0, "", ["TCP to another machine", "UDP to it"]]
    assert facts["attacks on the first card"] == [0, "", []]
    assert facts["denied"][0] == 1


def test_next_run_repairs_an_uplink(facts: Facts) -> None:
    assert facts["again"] is False
    assert facts["killed"] == [0, 1]
    assert [facts["repaired"][0], facts["repaired"][1][0]] == [3, 0], facts["repaired"]


def test_uplink_of_a_suspended_host_is_opened_again(facts: Facts) -> None:
    assert facts["suspended"] == 0
    assert [facts["resumed"][0], facts["resumed"][1][0]] == [3, 0], facts["resumed"]


def test_parent_and_child_of_a_branch_have_uplinks(facts: Facts) -> None:
    assert facts["branched"][0] == 6, facts["branched"]
    assert [result[0] for result in facts["branched"][1:]] == [0, 0], facts["branched"]
    assert facts["child deleted"] == 3


def test_uplink_ends_with_its_machine(facts: Facts) -> None:
    assert facts["dead"] == 0


def test_host_with_allow_reaches_declared_names_only(facts: Facts) -> None:
    assert facts["named"] == ["instant", True, 5], facts["named"]
    assert facts["pull by name"][0] == 0, facts["pull by name"]
    assert facts["fetch by name"][0] == 0, facts["fetch by name"]
    for name in ("pull by another name", "another port", "fetch by another name"):
        assert facts[name][0] == 1, (name, facts[name])
    refused = {(entry["destination"], entry["protocol"]) for entry in facts["refused"]}
    assert {("mirror.example.org", "dns"), ("files.example.org", "dns")} <= refused
    assert ("203.0.113.80", "tcp") in refused, "the other port"


def test_host_whose_uplink_has_ended_is_shown_and_repaired(facts: Facts) -> None:
    assert facts["cut off"] == ["the process of its uplink has ended, so it reaches nothing"]
    assert facts["not cut off"] == []
