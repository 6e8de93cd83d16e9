# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every object of every request that dockerd decodes, with the keys of Docker API 1.24 to 1.53.

The tables follow the structures of moby's ``api/types``. A key that no table lists is refused if it
is set. If a new engine adds a key, add the key here, with a check if it leads to the host.
"""

from __future__ import annotations

from typing import Any

from . import policy
from .policy import keys_of, one_of
from .schema import (
    EMPTY,
    FLAG,
    LABELS,
    NUMBER,
    NUMBERS,
    TEXT,
    TEXTS,
    WORDS,
    ZERO,
    Kind,
    Many,
    Map,
    Scalar,
    Struct,
)


def _text(check: Any) -> Scalar:
    return Scalar((str,), "a text", check)


def _flag(check: Any) -> Scalar:
    return Scalar((bool,), "true or false", check)


def _all(kind: Kind, *names: str) -> dict[str, Kind]:
    return dict.fromkeys(names, kind)


ADDRESS = _text(policy.address)
NAMESPACE = _text(policy.not_the_hosts)
LOCAL = _text(one_of("", "local"))
ULIMIT = Struct({"Name": TEXT, "Hard": NUMBER, "Soft": NUMBER}, policy.ulimit)
ULIMITS = Many(ULIMIT)
WEIGHTS = Many(Struct({"Path": TEXT, "Weight": NUMBER}))
RATES = Many(Struct({"Path": TEXT, "Rate": NUMBER}))

HEALTHCHECK = Struct(
    {
        "Test": TEXTS,
        **_all(NUMBER, "Interval", "Timeout", "StartPeriod", "StartInterval", "Retries"),
    }
)

# container.Config
CONFIG: dict[str, Kind] = {
    **_all(
        TEXT, "Hostname", "Domainname", "User", "Image", "WorkingDir", "MacAddress", "StopSignal"
    ),
    **_all(
        FLAG,
        "AttachStdin",
        "AttachStdout",
        "AttachStderr",
        "Tty",
        "OpenStdin",
        "StdinOnce",
        "ArgsEscaped",
        "NetworkDisabled",
    ),
    "ExposedPorts": Map(EMPTY),
    "Volumes": Map(EMPTY, policy.path_inside),
    **_all(TEXTS, "Env", "OnBuild"),
    **_all(WORDS, "Cmd", "Entrypoint", "Shell"),
    "Healthcheck": HEALTHCHECK,
    "Labels": LABELS,
    "StopTimeout": NUMBER,
}

# container.Resources
RESOURCES: dict[str, Kind] = {
    **_all(
        NUMBER,
        "CpuShares",
        "Memory",
        "NanoCpus",
        "BlkioWeight",
        "CpuPeriod",
        "CpuQuota",
        "KernelMemory",
        "KernelMemoryTCP",
        "MemoryReservation",
        "MemorySwap",
        "MemorySwappiness",
        "PidsLimit",
        "CpuCount",
        "CpuPercent",
        "IOMaximumIOps",
        "IOMaximumBandwidth",
    ),
    **_all(TEXT, "CpusetCpus", "CpusetMems"),
    "BlkioWeightDevice": WEIGHTS,
    **_all(
        RATES,
        "BlkioDeviceReadBps",
        "BlkioDeviceWriteBps",
        "BlkioDeviceReadIOps",
        "BlkioDeviceWriteIOps",
    ),
    "Ulimits": ULIMITS,
    "OomKillDisable": _flag(one_of(False)),
    **_all(
        ZERO,
        "CgroupParent",
        "Devices",
        "DeviceCgroupRules",
        "DeviceRequests",
        "CpuRealtimePeriod",
        "CpuRealtimeRuntime",
    ),
}
RESTART_POLICY = Struct({"Name": TEXT, "MaximumRetryCount": NUMBER})

DRIVER_CONFIG = Struct({"Name": LOCAL, "Options": ZERO})
MOUNT = Struct(
    {
        **_all(TEXT, "Type", "Source", "Target", "Consistency"),
        "ReadOnly": FLAG,
        "BindOptions": Struct(
            {
                "Propagation": TEXT,
                **_all(
                    FLAG,
                    "NonRecursive",
                    "CreateMountpoint",
                    "ReadOnlyNonRecursive",
                    "ReadOnlyForceRecursive",
                ),
            }
        ),
        "VolumeOptions": Struct(
            {"NoCopy": FLAG, "Labels": LABELS, "Subpath": TEXT, "DriverConfig": DRIVER_CONFIG}
        ),
        "TmpfsOptions": Struct({"SizeBytes": NUMBER, "Mode": NUMBER, "Options": Many(TEXTS)}),
        **_all(ZERO, "ImageOptions", "ClusterOptions"),
    },
    policy.mount,
)
# container.HostConfig
HOST_CONFIG: dict[str, Kind] = {
    **RESOURCES,
    "Binds": Many(_text(policy.bind)),
    **_all(TEXT, "ContainerIDFile"),
    "LogConfig": Struct(
        {
            "Type": _text(one_of("", "json-file", "local", "none")),
            "Config": Map(TEXT, keys_of(policy.LOG_OPTIONS)),
        }
    ),
    **_all(NAMESPACE, "NetworkMode", "PidMode", "IpcMode", "UTSMode", "UsernsMode", "CgroupnsMode"),
    "PortBindings": Map(Many(Struct({"HostIp": TEXT, "HostPort": TEXT}))),
    "RestartPolicy": RESTART_POLICY,
    **_all(FLAG, "AutoRemove", "PublishAllPorts", "ReadonlyRootfs", "Init"),
    "Privileged": _flag(one_of(False)),
    "VolumeDriver": LOCAL,
    **_all(
        TEXTS, "VolumesFrom", "Dns", "DnsOptions", "DnsSearch", "ExtraHosts", "GroupAdd", "Links"
    ),
    "ConsoleSize": NUMBERS,
    "CapAdd": Many(_text(policy.capability), single=True),
    "CapDrop": WORDS,
    "OomScoreAdj": Scalar((int,), "a whole number", policy.not_negative),
    "SecurityOpt": Many(_text(one_of(*policy.SECURITY_OPTIONS))),
    **_all(LABELS, "StorageOpt", "Tmpfs"),
    "ShmSize": NUMBER,
    "Runtime": _text(one_of("", "runc")),
    "Isolation": _text(one_of("", "default")),
    "Mounts": Many(MOUNT),
    **_all(Many(TEXT, check=policy.only_null), "MaskedPaths", "ReadonlyPaths"),
    **_all(ZERO, "Annotations", "Cgroup", "Sysctls"),
}

# network.EndpointSettings
ENDPOINT = Struct(
    {
        "IPAMConfig": Struct({**_all(TEXT, "IPv4Address", "IPv6Address"), "LinkLocalIPs": TEXTS}),
        **_all(TEXTS, "Links", "Aliases", "DNSNames"),
        **_all(
            TEXT,
            "NetworkID",
            "EndpointID",
            "Gateway",
            "IPAddress",
            "MacAddress",
            "IPv6Gateway",
            "GlobalIPv6Address",
        ),
        **_all(NUMBER, "GwPriority", "IPPrefixLen", "GlobalIPv6PrefixLen"),
        "DriverOpts": Map(TEXT, keys_of(policy.ENDPOINT_OPTIONS)),
    }
)
NETWORKING = Struct({"EndpointsConfig": Map(ENDPOINT, policy.no_host_network)})

# dockerd also decodes the keys of HostConfig at the top level of these objects: the same checks
# apply to them there.
_WRAPPER: dict[str, Kind] = {
    **HOST_CONFIG,
    **CONFIG,
    "Cpuset": TEXT,
    "HostConfig": Struct(HOST_CONFIG),
    "NetworkingConfig": NETWORKING,
}
CONTAINER = Struct(_WRAPPER, policy.container)
COMMIT = Struct(_WRAPPER)
UPDATE = Struct({**RESOURCES, "RestartPolicy": RESTART_POLICY})
EXEC = Struct(
    {
        **_all(TEXT, "User", "DetachKeys", "WorkingDir", "Container"),
        **_all(FLAG, "Tty", "AttachStdin", "AttachStdout", "AttachStderr", "Detach"),
        "Privileged": _flag(one_of(False)),
        "ConsoleSize": NUMBERS,
        "Env": TEXTS,
        "Cmd": WORDS,
    }
)
EXEC_START = Struct({**_all(FLAG, "Detach", "Tty"), "ConsoleSize": NUMBERS})
NETWORK = Struct(
    {
        **_all(TEXT, "Name"),
        "Scope": LOCAL,
        "Driver": _text(one_of("", "bridge")),
        **_all(FLAG, "CheckDuplicate", "EnableIPv4", "EnableIPv6", "Internal"),
        "IPAM": Struct(
            {
                "Driver": _text(one_of("", "default")),
                "Options": ZERO,
                "Config": Many(
                    Struct(
                        {
                            **_all(ADDRESS, "Subnet", "IPRange", "Gateway"),
                            "AuxiliaryAddresses": Map(ADDRESS),
                        }
                    )
                ),
            }
        ),
        "Options": Map(TEXT, keys_of(policy.NETWORK_OPTIONS)),
        "Labels": LABELS,
        **_all(ZERO, "Attachable", "Ingress", "ConfigOnly", "ConfigFrom"),
    }
)
CONNECT = Struct({"Container": TEXT, "EndpointConfig": ENDPOINT})
DISCONNECT = Struct({"Container": TEXT, "Force": FLAG})
VOLUME = Struct(
    {
        "Name": TEXT,
        "Driver": LOCAL,
        "Labels": LABELS,
        **_all(ZERO, "DriverOpts", "ClusterVolumeSpec"),
    }
)
LOGIN = Struct(
    _all(
        TEXT,
        "username",
        "password",
        "auth",
        "email",
        "serveraddress",
        "identitytoken",
        "registrytoken",
    )
)
