# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Raw requests that lead out of a container, or cut its host off. Docker's own client cannot spell
most of them.

The unit tests hold each against the rules; the tests on real guests send each to a hostile host,
which must refuse it, and to one without a plugin, where it must succeed.
"""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import dataclass, field
from typing import Any

CREATE = "/containers/create"
IMAGE: dict[str, Any] = {"Image": "attacks", "Cmd": ["true"]}
TYPE = {"Content-Type": "application/json"}
ROOT_VOLUME = {"type": "none", "o": "bind", "device": "/"}
ROOT_MOUNT = {
    "Type": "volume",
    "Source": "trick",
    "Target": "/x",
    "VolumeOptions": {
        "DriverConfig": {"Name": "local", "Options": ROOT_VOLUME},
    },
}


@dataclass(frozen=True)
class Attempt:
    """A request.

    :param effect: the key of the container's ``HostConfig`` that shows the success, and its value.
    :param succeeds: whether a Docker without a plugin does it; if not, it fails there for another
        reason.
    """

    uri: str
    body: bytes = b""
    method: str = "POST"
    headers: dict[str, str] = field(default_factory=lambda: dict(TYPE))
    effect: tuple[str, Any] | None = None
    succeeds: bool = True


# Keys of HostConfig: a name for what each leads to, and the values.
OPTIONS: dict[str, dict[str, Any]] = {
    "a privileged container": {"Privileged": True},
    "the host's processes": {"PidMode": "host"},
    "the host's shared memory": {"IpcMode": "host"},
    "the host's network": {"NetworkMode": "host"},
    "the host's name": {"UTSMode": "host"},
    "the host's users": {"UsernsMode": "host"},
    "the host's cgroups": {"CgroupnsMode": "host"},
    "a capability": {"CapAdd": ["CAP_SYS_ADMIN"]},
    "no seccomp": {"SecurityOpt": ["seccomp=unconfined"]},
    "no AppArmor": {"SecurityOpt": ["apparmor=unconfined"]},
    "a bare /proc": {"MaskedPaths": []},
    "a writable /proc": {"ReadonlyPaths": []},
    "the host's disk as a device": {
        "Devices": [
            {"PathOnHost": "/dev/vda", "PathInContainer": "/dev/vda", "CgroupPermissions": "rwm"}
        ],
    },
    "a rule for all devices": {"DeviceCgroupRules": ["a *:* rwm"]},
    "the host's root": {"Binds": ["/:/host"]},
    "Docker's socket": {"Binds": ["/run/docker.sock:/docker.sock"]},
    "the host's root as a mount": {"Mounts": [{"Type": "bind", "Source": "/", "Target": "/host"}]},
    "a volume of the host's root": {"Mounts": [ROOT_MOUNT]},
    "another cgroup": {"CgroupParent": "system.slice"},
    "to be spared when memory runs out": {"OomScoreAdj": -900},
    "a kernel setting": {"Sysctls": {"net.ipv4.ip_forward": "1"}},
    "a log that goes elsewhere": {
        "LogConfig": {"Type": "syslog", "Config": {"syslog-address": "udp://127.0.0.1:514"}},
    },
    "real-time priority": {"Ulimits": [{"Name": "rtprio", "Hard": 99, "Soft": 99}]},
}


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _folded(text: bytes, key: str) -> bytes:
    """Spell a key in other case; an s is one that Go folds."""
    return text.replace(
        f'"{key}"'.encode(), f'"{key.swapcase().replace("s", chr(0x17F), 1)}"'.encode()
    )


def _spellings(options: dict[str, Any]) -> dict[str, bytes]:
    inside = _json({**IMAGE, "HostConfig": options})
    at_top_level = _json({**IMAGE, **options})
    key = next(iter(options))
    return {
        "inside HostConfig": inside,
        "top level without HostConfig": at_top_level,
        "top level with HostConfig null": _json({**IMAGE, **options, "HostConfig": None}),
        "top level in other case": _folded(at_top_level, key),
    }


def _created(name: str, options: dict[str, Any]) -> dict[str, Attempt]:
    effect = next(iter(options.items()))
    return {
        f"{name}: {spelling}": Attempt(CREATE, body, effect=effect)
        for spelling, body in _spellings(options).items()
    }


PRIVILEGED = ("Privileged", True)
PLAIN = _json({**IMAGE, "HostConfig": {"Privileged": True}})
# One request each, written in other ways.
SPELLED = {
    "another version": Attempt("/v1.41" + CREATE, PLAIN, effect=PRIVILEGED),
    "all keys in lower case": Attempt(
        CREATE,
        PLAIN.replace(b"HostConfig", b"hostconfig").replace(b"Priv", b"pRIV"),
        effect=PRIVILEGED,
    ),
    "HostConfig twice": Attempt(
        CREATE, PLAIN[:-1] + b', "hostconfig": {"Binds": null}}', effect=PRIVILEGED
    ),
    "Privileged twice": Attempt(
        CREATE,
        PLAIN.replace(b'"Privileged"', b'"Privileged": false, "privileged"'),
        effect=PRIVILEGED,
    ),
    "a charset": Attempt(
        CREATE,
        PLAIN,
        headers={"Content-Type": "application/json; charset=utf-8"},
        effect=PRIVILEGED,
    ),
    # Docker 26 refuses it itself.
    "something behind it": Attempt(CREATE, PLAIN + b"{}", effect=PRIVILEGED, succeeds=False),
    "a key that no table knows": Attempt(
        CREATE, _json({**IMAGE, "HostConfig": {"Brandnew": {"Depth": [1]}}})
    ),
    "a capability as a text": Attempt(
        CREATE,
        _json({**IMAGE, "HostConfig": {"CapAdd": "CAP_SYS_ADMIN"}}),
        effect=("CapAdd", ["CAP_SYS_ADMIN"]),
    ),
    "a query that ends in /auth": Attempt(CREATE + "?a=/auth", PLAIN, effect=PRIVILEGED),
}


def _context() -> bytes:
    """Return an archive of a Dockerfile that runs nothing."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as writer:
        text = b"FROM attacks\nLABEL a=b\n"
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(text)
        writer.addfile(entry, io.BytesIO(text))
    return archive.getvalue()


TAR = {"Content-Type": "application/x-tar"}
RTPRIO = "%5B%7B%22Name%22%3A%22rtprio%22%2C%22Hard%22%3A99%2C%22Soft%22%3A99%7D%5D"
EXEC = {"Cmd": ["true"], "Privileged": True}
OTHERS = {
    "a privileged program": Attempt("/containers/victim/exec", _json(EXEC)),
    "a privileged program, in other case": Attempt(
        "/containers/victim/exec", _folded(_json(EXEC), "Privileged")
    ),
    "a privileged program, twice": Attempt(
        "/containers/victim/exec", b'{"Cmd": ["true"], "Privileged": false, "PRIVILEGED": true}'
    ),
    "a volume of the host's root by itself": Attempt(
        "/volumes/create", _json({"Name": "t1", "DriverOpts": ROOT_VOLUME})
    ),
    "a volume of the host's root, in other case": Attempt(
        "/volumes/create", _folded(_json({"Name": "t2", "DriverOpts": ROOT_VOLUME}), "DriverOpts")
    ),
    "a bridge with a name of the host's": Attempt(
        "/networks/create",
        _json({"Name": "t3", "Options": {"com.docker.network.bridge.name": "eth9"}}),
    ),
    "a network on the host's interface": Attempt(
        "/networks/create",
        _json({"Name": "t4", "Driver": "macvlan", "Options": {"parent": "eth0"}}),
    ),
    "real-time priority by an update": Attempt(
        "/containers/victim/update",
        _json({"Ulimits": [{"Name": "rtprio", "Hard": 99, "Soft": 99}]}),
    ),
    "a build in another cgroup": Attempt(
        "/build?cgroupparent=system.slice", _context(), headers=TAR
    ),
    "a build on the host's network": Attempt("/build?networkmode=host", _context(), headers=TAR),
    "a build with real-time priority": Attempt(f"/build?ulimits={RTPRIO}", _context(), headers=TAR),
    "a checkpoint from elsewhere": Attempt(
        "/containers/victim/start?checkpoint=x&checkpoint-dir=/tmp", headers={}, succeeds=False
    ),
}
# Networks that a host may be reached through, by the configuration of the network.
SUBNETS: dict[str, dict[str, Any]] = {
    "the network of QEMU's guests": {"Subnet": "10.0.2.0/24"},
    "a part of the network of QEMU's guests": {"Subnet": "10.0.2.0/29"},
    "a gateway among QEMU's guests": {"Subnet": "10.0.2.0/24", "Gateway": "10.0.2.2"},
    "link-local addresses": {"Subnet": "169.254.0.0/16"},
    "a network elsewhere": {"Subnet": "203.0.113.0/24"},
    "a network elsewhere, with a gateway": {"Subnet": "198.51.100.0/24", "Gateway": "198.51.100.1"},
    "a network elsewhere, by an address": {"Subnet": "192.0.2.77/24"},
    "a network elsewhere, with addresses left out": {
        "Subnet": "203.0.113.0/24",
        "AuxiliaryAddresses": {"a": "203.0.113.9"},
    },
    "a network of IPv6": {"Subnet": "2001:db8::/64"},
    "a network that holds a pool": {"Subnet": "172.0.0.0/9"},
}
# These cut a host off for good: only a host that refuses is asked.
CUTS_OFF = (
    "the network of QEMU's",
    "a part of the network of QEMU's",
    "a gateway among QEMU's",
    "link-local",
)


def _network(name: str, config: dict[str, Any]) -> dict[str, Attempt]:
    request = {"Name": "cut", "EnableIPv6": ":" in config["Subnet"], "IPAM": {"Config": [config]}}
    lower = {
        "name": "cut",
        "enableipv6": ":" in config["Subnet"],
        "ipam": {
            "config": [{key.lower(): value for key, value in config.items()}],
        },
    }
    # dockerd refuses the first itself, and Docker 26 the second.
    succeeds = name not in ("a network that holds a pool", "a network elsewhere, by an address")
    return {
        name: Attempt("/networks/create", _json(request), succeeds=succeeds),
        f"{name}, in other case": Attempt("/networks/create", _json(lower), succeeds=succeeds),
    }


NETWORKS = {
    key: attempt
    for name, config in SUBNETS.items()
    for key, attempt in _network(name, config).items()
}
ATTEMPTS: dict[str, Attempt] = {
    **{
        key: item
        for name, options in OPTIONS.items()
        for key, item in _created(name, options).items()
    },
    **SPELLED,
    **OTHERS,
    **NETWORKS,
}
