# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The machine's libvirt and its networks: forks of a template that was frozen with a card plugged
into nothing.
"""

from __future__ import annotations

import os
import shutil
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from stockyard import TemplateInfo

from . import private_libvirt

pytestmark = pytest.mark.real
Found = dict[str, Any]


@pytest.fixture(scope="module")
def networks(template: TemplateInfo, tmp_path_factory: pytest.TempPathFactory) -> Found:
    """Two hosts in an isolated network, one in a network that forwards, and what they reach."""
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip(
            "/dev/net/tun may not be opened by this user (udev gives it 0666), so QEMU has no taps"
        )
    for program in ("libvirtd", "iptables", "ip", "newuidmap"):
        if not shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin"):
            pytest.skip(f"{program} is not installed: run `make setup`")
    result: Found = private_libvirt.run(
        tmp_path_factory.mktemp("system"),
        """
        os.environ["PATH"] += ":/usr/sbin:/sbin"
        system_daemon()
        network("inside", "10.78.0.1")
        network("outside", "10.77.0.1", "open")
        subprocess.run(["ip", "address", "add", "192.0.2.1/32", "dev", "lo"], check=True)
        subprocess.Popen([sys.executable, "-m", "http.server", "--bind", "192.0.2.1", "8000"],
                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/run")

        def reaches(host, address, port):
            line = f"timeout 5 bash -c '</dev/tcp/{address}/{port}' 2>&1 && echo yes || echo no"
            return ssh(host, line).stdout.split()[-1] == "yes"

        def refused(spec):
            try:
                yard.hosts.apply(SingleSpec("never", "docker", host=spec))
            except StockyardError as error:
                return str(error)

        with open_yard("qemu:///system") as yard:
            inside = FleetSpec("pair", "docker", count=2, host=HostSpec(network="inside"))
            pair = yard.fleets.apply(inside).objects
            alone = HostSpec(network="outside", egress="open")
            single = yard.hosts.apply(SingleSpec("alone", "docker", host=alone)).objects[0]
            again = yard.fleets.apply(inside).changed
            found = {
                "pair": [host.to_dict() for host in pair], "single": single.to_dict(),
                "again": again,
                "inside out": reaches(pair[0], "192.0.2.1", 8000),
                "outside out": reaches(single, "192.0.2.1", 8000),
                "neighbour": reaches(pair[0], pair[1].address, 22),
                "itself": reaches(pair[0], "127.0.0.1", 22),
                "names": ssh(single, "cat /etc/resolv.conf").stdout,
                "no way in": refused(HostSpec(network="outside")),
                "no way out": refused(HostSpec(network="inside", egress="open")),
                "no network": refused(HostSpec(network="nosuch", egress="open")),
            }
            yard.teardown()
            argv = ["virsh", "-q", "-c", "qemu:///system", "list", "--all", "--name"]
            left = subprocess.run(argv, capture_output=True, text=True).stdout.split()
            folders = {p.name for p in (STORE / "hosts").iterdir()}
            found["left"] = [n for n in left if ".template." not in n], len(qemus())
            found["folders"] = [h.uuid for h in [*pair, single] if h.uuid in folders]
        print(json.dumps(found))
        """,
        system=True,
    )
    return result


def test_forks_are_instant_and_docker_answers_in_the_network(networks: Found) -> None:
    for host, whole in (
        (networks["pair"][0], "10.78.0.0/24"),
        (networks["pair"][1], "10.78.0.0/24"),
        (networks["single"], "10.77.0.0/24"),
    ):
        assert (host["mode"], host["ready"], host["ssh"]["port"]) == ("instant", True, 22), host
        assert ip_address(host["address"]) in ip_network(whole)
    assert not networks["again"]


def test_only_a_forwarding_network_gives_egress(networks: Found) -> None:
    assert networks["outside out"]
    assert not networks["inside out"]
    assert networks["names"] == "nameserver 10.77.0.1\n"


def test_neighbours_do_not_reach_each_other(networks: Found) -> None:
    assert networks["itself"]
    assert not networks["neighbour"]


def test_egress_that_the_network_cannot_enforce_is_refused(networks: Found) -> None:
    assert "egress none is not possible in network outside" in networks["no way in"]
    assert "egress open is not possible in network inside" in networks["no way out"]
    assert "the network does not exist" in networks["no network"]


def test_nothing_is_left(networks: Found) -> None:
    assert networks["left"] == [[], 0]
    assert networks["folders"] == []
