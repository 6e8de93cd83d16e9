# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests that the authorization plugin allows or refuses, in each spelling of dockerd."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockyard.guest.security import authorization
from stockyard.guest.security.authz.body import Denied, decoded, folded
from stockyard.guest.security.authz.policy import Policy
from stockyard.guest.security.authz.rules import check, split
from stockyard.guest.security.authz.server import LONGEST, answer, read_policy, serve
from stockyard.model.security import PROFILES, SecuritySpec

OPEN = Policy()
CREATE = "/v1.41/containers/create"
# What Docker's client of Debian 12 sends for `docker run busybox`, shortened.
PLAIN: dict[str, Any] = {
    "Hostname": "",
    "User": "",
    "AttachStdin": False,
    "Env": None,
    "Cmd": ["true"],
    "Image": "busybox",
    "Volumes": {},
    "Labels": {},
    "HostConfig": {
        "Binds": None,
        "ContainerIDFile": "",
        "LogConfig": {"Type": "", "Config": {}},
        "NetworkMode": "default",
        "PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]},
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        "AutoRemove": True,
        "VolumeDriver": "",
        "VolumesFrom": None,
        "CapAdd": None,
        "CapDrop": None,
        "CgroupnsMode": "",
        "Dns": [],
        "DnsOptions": [],
        "DnsSearch": [],
        "ExtraHosts": None,
        "GroupAdd": None,
        "IpcMode": "",
        "Cgroup": "",
        "Links": None,
        "OomScoreAdj": 0,
        "PidMode": "",
        "Privileged": False,
        "PublishAllPorts": False,
        "ReadonlyRootfs": False,
        "SecurityOpt": None,
        "UTSMode": "",
        "UsernsMode": "",
        "ShmSize": 0,
        "ConsoleSize": [0, 0],
        "Isolation": "",
        "CpuShares": 0,
        "Memory": 67108864,
        "NanoCpus": 0,
        "CgroupParent": "",
        "BlkioWeight": 0,
        "BlkioWeightDevice": [],
        "BlkioDeviceReadBps": None,
        "CpuPeriod": 0,
        "CpusetCpus": "",
        "Devices": [],
        "DeviceCgroupRules": None,
        "DeviceRequests": None,
        "KernelMemory": 0,
        "MemorySwappiness": -1,
        "OomKillDisable": False,
        "PidsLimit": 0,
        "Ulimits": None,
        "CpuCount": 0,
        "IOMaximumIOps": 0,
        "MaskedPaths": None,
        "ReadonlyPaths": None,
    },
    "NetworkingConfig": {"EndpointsConfig": {}},
}
SHUT: dict[str, Any] = {
    "Privileged": True,
    "PidMode": "host",
    "IpcMode": "host",
    "NetworkMode": "host",
    "UTSMode": "host",
    "UsernsMode": "host",
    "CgroupnsMode": "host",
    "CapAdd": ["SYS_ADMIN"],
    "SecurityOpt": ["seccomp=unconfined"],
    "Devices": [{"PathOnHost": "/dev/vda"}],
    "DeviceCgroupRules": ["a *:* rwm"],
    "DeviceRequests": [{"Count": -1}],
    "Binds": ["/:/host"],
    "Mounts": [{"Type": "bind", "Source": "/", "Target": "/host"}],
    "VolumeDriver": "nfs",
    "Runtime": "kata",
    "CgroupParent": "system.slice",
    "OomScoreAdj": -1000,
    "OomKillDisable": True,
    "Sysctls": {"kernel.core_pattern": "|/x"},
    "MaskedPaths": [],
    "ReadonlyPaths": [],
    "LogConfig": {"Type": "fluentd"},
    "Isolation": "hyperv",
    "Annotations": {"a": "b"},
    "SomethingNew": True,
    "Cgroup": "container:x",
}


def asked(method: str, uri: str, body: Any = None, **headers: str) -> dict[str, Any]:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    request: dict[str, Any] = {
        "RequestMethod": method,
        "RequestUri": uri,
        "RequestHeaders": headers,
    }
    return (
        {**request, "RequestBody": base64.b64encode(text).decode()} if body is not None else request
    )


def create(config: dict[str, Any], **top: Any) -> dict[str, Any]:
    return asked("POST", CREATE, {**PLAIN, **top, "HostConfig": {**PLAIN["HostConfig"], **config}})


def refused(policy: Policy, request: dict[str, Any]) -> str:
    with pytest.raises(Denied) as refusal:
        check(policy, request)
    return str(refusal.value)


def test_ordinary_container_is_allowed() -> None:
    check(OPEN, create({}))
    check(
        OPEN,
        create({"CapAdd": ["CAP_NET_BIND_SERVICE", "chown"], "Binds": ["data:/data", "/data"]}),
    )
    check(OPEN, create({"SecurityOpt": ["no-new-privileges"], "NetworkMode": "container:abc"}))


@pytest.mark.parametrize("key", sorted(SHUT))
def test_container_with_host_access_is_refused(key: str) -> None:
    refused(OPEN, create({key: SHUT[key]}))


@pytest.mark.parametrize("key", sorted(SHUT))
@pytest.mark.parametrize(
    "spell", [str.lower, str.upper, str.swapcase, lambda k: k.replace("s", "\u017f")]
)
def test_go_takes_keys_in_any_case_and_so_does_the_plugin(key: str, spell: Any) -> None:
    config = {name: value for name, value in PLAIN["HostConfig"].items() if name != key}
    refused(
        OPEN,
        asked(
            "POST", CREATE, {"image": "x", spell("HostConfig"): {**config, spell(key): SHUT[key]}}
        ),
    )


def test_two_keys_that_are_one_to_go_are_refused() -> None:
    text = b'{"Image": "x", "HostConfig": {}, "hostconfig": {"Privileged": true}}'
    assert "twice" in refused(OPEN, asked("POST", CREATE, text))


@pytest.mark.parametrize(
    "text",
    [
        '{"Image": "x", "hostconfig": {"Privileged": true}, "HostConfig": {}}',
        '{"Image": "x", "hostconfig": {}, "HostConfig": {"Privileged": true}}',
        '{"Image": "x", "HostConfig": {"privileged": true, "Privileged": false}}',
        '{"Image": "x", "HostConfig": {"Privileged": false, "privileged": true}}',
        '{"Image": "x", "HostConfig": {"Binds": [], "binds": ["/:/host"]}}',
        '{"Image": "x", "HostConfig": {"binds": ["/:/host"], "Binds": []}}',
    ],
)
def test_dangerous_key_next_to_a_harmless_one_is_refused_in_each_order(text: str) -> None:
    refused(OPEN, asked("POST", CREATE, text.encode()))


@pytest.mark.parametrize(
    "text",
    [
        '{"Image": "x", "hostconfig": {}, "HostConfig": {}}',
        '{"Image": "x", "HostConfig": {}, "hostconfig": {}}',
        '{"Image": "x", "HostConfig": {}, "HOSTCONFIG": null}',
        '{"Image": "x", "HostConfig": {"privileged": false, "Privileged": false}}',
        '{"Image": "x", "HostConfig": {"Binds": [], "binds": []}}',
        '{"image": "x", "Image": "y"}',
        '{"Image": "x", "Image": "x"}',
        '{"Image": "x", "HostConfig": {"PortBindings": {}, "portbindings": {}}}',
    ],
)
def test_key_that_go_reads_twice_is_refused_whatever_its_values(text: str) -> None:
    assert "twice" in refused(OPEN, asked("POST", CREATE, text.encode()))


def test_go_reads_the_first_value_only() -> None:
    refused(
        OPEN,
        asked("POST", CREATE, json.dumps(PLAIN).encode() + b'{"HostConfig": {"Privileged": true}}'),
    )


@pytest.mark.parametrize(
    "uri",
    [
        "/containers/create",
        "/v1.41/containers/create",
        "/v1.24/containers/create?name=x",
        "/containers/create?name=/auth",
    ],
)
def test_invisible_body_is_refused(uri: str) -> None:
    assert "cannot be seen" in refused(OPEN, asked("POST", uri))
    assert "cannot be seen" in refused(OPEN, {**asked("POST", uri), "RequestBody": ""})


@pytest.mark.parametrize(
    "uri",
    [
        "//containers/create",
        "/v1.41//containers/create",
        "/v1.41/./containers/create",
        "/x/../containers/create",
        "/v1.41/containers/%63reate",
        "/v1.41/containers%2fcreate",
        "/v1.41/containers/create/",
        "/v1./containers/create",
        "/v1..41/containers/create",
        "/v41/containers/create",
        "/vv1.41/containers/create",
        "containers/create",
        "",
        "http://docker/containers/create",
        "/v1.41/v1.41/containers/create",
        "/v1.41/containers/create\x00",
        "/v1.41/Containers/create",
        "/v1.41/containers/create;x",
        "/v1.23/containers/create",
        "/v0.41/containers/create",
    ],
)
def test_paths_that_are_not_plain_are_refused(uri: str) -> None:
    refused(OPEN, asked("POST", uri, PLAIN))


@pytest.mark.parametrize(
    ("method", "uri"),
    [
        ("POST", "/plugins/stockyard-authz/disable"),
        ("POST", "/plugins/pull?remote=x"),
        ("DELETE", "/plugins/x"),
        ("POST", "/plugins/x/set"),
        ("POST", "/swarm/init"),
        ("GET", "/swarm/unlockkey"),
        ("POST", "/services/create"),
        ("GET", "/secrets"),
        ("POST", "/session"),
        ("POST", "/grpc"),
        ("POST", "/v1.23/containers/x/start"),
        ("GET", "/debug/pprof/heap"),
        ("POST", "/containers/x/checkpoints"),
        ("OPTIONS", "/"),
        ("post", CREATE),
        ("POST", "/build?networkmode=host"),
        ("POST", "/build?version=2"),
        ("POST", "/build?cgroupparent=x.slice"),
        ("POST", "/build?networkmode=none&networkmode=host"),
        ("POST", "/build?a=1;networkmode=host"),
    ],
)
def test_other_ways_out_are_refused(method: str, uri: str) -> None:
    refused(OPEN, asked(method, uri, PLAIN if method == "post" else None))


@pytest.mark.parametrize(
    "uri",
    [
        "/build?remote=http://127.0.0.1:8080/x",
        "/build?t=x&remote=https://127.0.0.1/x.tar.gz",
        "/build?remote=git://127.0.0.1/x.git",
        "/v1.41/build?remote=%68ttp://[::1]/x",
        "/images/create?fromSrc=http://127.0.0.1:8080/x",
        "/images/create?fromSrc=http%3A%2F%2F127.0.0.1%2Fx&repo=busybox",
        "/v1.24/images/create?fromSrc=file:///etc/shadow",
    ],
)
def test_docker_fetches_nothing_from_an_address_of_a_request(uri: str) -> None:
    """It would do so in the network of the host, and show services on its loopback."""
    assert "address" in refused(Policy(build=True), asked("POST", uri))


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("POST", CREATE, "name"), ("GET", "/containers/json", "all"), ("GET", "/info", "")],
)
def test_name_in_a_query_that_no_table_has_is_refused_if_it_is_set(
    method: str, path: str, allowed: str
) -> None:
    body = PLAIN if path == CREATE else None
    for query in ("evil=1", "evil=x", "Evil=%2F", "evil=&evil=1"):
        assert "may not set" in refused(OPEN, asked(method, f"{path}?{query}", body))
    if allowed:
        assert "may not set" in refused(OPEN, asked(method, f"{path}?{allowed}=1&evil=1", body))
        check(OPEN, asked(method, f"{path}?{allowed}=1", body))
    for value in ("", "0", "false", "null"):
        check(OPEN, asked(method, f"{path}?evil={value}", body))


def test_builds_and_imports_from_the_client_are_allowed() -> None:
    check(Policy(build=True), asked("POST", "/build?t=x&remote="))
    check(OPEN, asked("POST", "/images/create?fromSrc=-&repo=busybox"))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (
            "volumes/create",
            {"Name": "x", "DriverOpts": {"type": "none", "o": "bind", "device": "/"}},
        ),
        ("volumes/create", {"Name": "x", "Driver": "sshfs"}),
        ("networks/create", {"Name": "x", "Driver": "macvlan", "Options": {"parent": "eth0"}}),
        (
            "networks/create",
            {"Name": "x", "Options": {"com.docker.network.bridge.name": "docker0"}},
        ),
        ("containers/x/exec", {"Cmd": ["sh"], "Privileged": True}),
        ("containers/x/exec", {"Cmd": ["sh"], "privileged": 1}),
        ("containers/x/update", {"CgroupParent": "x.slice"}),
        ("containers/x/update", {"Devices": [{"PathOnHost": "/dev/vda"}]}),
    ],
)
def test_bodies_of_other_routes_are_checked(path: str, body: dict[str, Any]) -> None:
    refused(OPEN, asked("POST", f"/v1.41/{path}", body))
    refused(OPEN, asked("POST", f"/{path}"))


def test_other_parts_of_a_container_are_checked() -> None:
    refused(OPEN, create({}, Volumes={"/etc:/x": {}}))
    refused(OPEN, create({}, NetworkingConfig={"EndpointsConfig": {"host": {}}}))
    options = {"DriverConfig": {"Options": {"device": "/", "o": "bind", "type": "none"}}}
    refused(
        OPEN,
        create(
            {
                "Mounts": [
                    {"Type": "volume", "Source": "x", "Target": "/x", "VolumeOptions": options}
                ]
            }
        ),
    )
    refused(OPEN, create({"Binds": "/:/host"}))


def test_mount_is_allowed_by_its_whole_path_only() -> None:
    policy = Policy(mounts=("/srv/data",))
    check(policy, create({"Binds": ["/srv/data:/data:ro"]}))
    for bind in ("/srv/data/x", "/srv/data/..", "/srv//data", "/srv", "/srv/data/"):
        refused(policy, create({"Binds": [f"{bind}:/data"]}))


def test_images_are_allowed_by_list_or_digest() -> None:
    policy, digest = Policy(images=("busybox", "registry.example/team/*")), "x@sha256:" + "a" * 64
    check(policy, create({}))
    check(policy, asked("POST", "/images/create?fromImage=registry.example/team/app&tag=1"))
    refused(policy, asked("POST", "/images/create?fromImage=evil&tag=1"))
    refused(policy, asked("POST", "/images/create?fromSrc=-&repo=busybox"))
    for way in ("/images/load", "/commit?container=x", "/build", "/images/x/tag?repo=busybox"):
        refused(policy, asked("POST", way))
    check(Policy(by_digest=True), create({}, Image=digest))
    refused(Policy(by_digest=True), create({}))
    check(OPEN, asked("POST", "/images/create?fromImage=any"))


def test_image_named_by_its_id_alone_is_refused_by_digest() -> None:
    """Any image that was loaded or imported has an id."""
    policy = Policy(by_digest=True)
    refused(policy, create({}, Image="sha256:" + "a" * 64))
    check(policy, create({}, Image="registry.example/app@sha256:" + "a" * 64))


def test_forms_are_refused() -> None:
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    assert "forms" in refused(OPEN, {**asked("POST", "/build"), "RequestHeaders": kind})
    assert "not built" in refused(Policy(build=False), asked("POST", "/build"))


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"null", b"1", b"{", b'{"a": NaN}', b"\xff\xfe", b"[" * 100000, b'"x"']
)
def test_body_that_is_no_object_is_refused(text: bytes) -> None:
    refused(OPEN, asked("POST", CREATE, text or b" "))


@given(st.binary(max_size=200))
def test_no_body_crashes_the_plugin(text: bytes) -> None:
    try:
        check(OPEN, asked("POST", CREATE, text))
    except Denied:
        return
    raise AssertionError("random bytes were let through")


@given(st.text(max_size=60))
def test_no_path_crashes_the_plugin_or_hides_a_creation(text: str) -> None:
    try:
        path, _query = split(text)
    except Denied:
        return
    assert path.startswith("/")
    assert "//" not in path
    assert "%" not in path


@given(
    st.sampled_from(sorted(SHUT)),
    st.none() | st.booleans() | st.integers() | st.text() | st.just([{"a": [None]}]),
)
def test_values_of_any_shape_are_an_answer(key: str, value: Any) -> None:
    request = json.dumps(create({key: value})).encode()
    assert isinstance(answer(OPEN, "/AuthZPlugin.AuthZReq", request)["Allow"], bool)


def test_keys_fold_as_in_go() -> None:
    assert folded("HO\u017fTCONFIG") == folded("HostConfig")
    assert folded("PIDMODE\u212a") == "pidmodek"
    assert decoded(base64.b64encode(b'{"A": {"B": 1}}').decode()) == [("A", [("B", 1)])]


def test_internal_error_is_a_refusal() -> None:
    for body in (b"", b"{", b"[]", b"null", b'{"RequestMethod": 3, "RequestUri": []}', b"\xff"):
        assert answer(OPEN, "/AuthZPlugin.AuthZReq", body)["Allow"] is False
    assert answer(OPEN, "/Other", b"{}")["Allow"] is False
    assert answer(OPEN, "/Plugin.Activate", b"") == {"Implements": ["authz"]}


class Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("plugin", timeout=10)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(10)
        self.sock.connect(str(self.path))


def test_plugin_serves_many_calls_on_one_connection(tmp_path: Path) -> None:
    (tmp_path / "policy.json").write_text(authorization.text(SecuritySpec("hostile").settings()))
    policy = read_policy(str(tmp_path / "policy.json"))
    with serve(str(tmp_path / "s"), policy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        connection = Connection(tmp_path / "s")
        for request, allowed in (
            (create({}), True),
            (create({"Privileged": True}), False),
            (create({}), True),
        ):
            connection.request("POST", "/AuthZPlugin.AuthZReq", json.dumps(request))
            assert json.loads(connection.getresponse().read())["Allow"] is allowed
        connection.close()
        server.shutdown()


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[Path]:
    """The socket of a plugin that allows ordinary requests."""
    with serve(str(tmp_path / "s"), OPEN) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield tmp_path / "s"
        server.shutdown()


def sent(plugin: Path, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
    """Send a call with these headers and no others; return the status and the body."""
    with closing(Connection(plugin)) as connection:
        connection.putrequest("POST", "/AuthZPlugin.AuthZReq")
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        response = connection.getresponse()
        assert response.status == 200 or response.headers["Connection"] == "close"
        return response.status, response.read()


def test_longest_body_is_read_and_a_longer_one_refused(plugin: Path) -> None:
    text = json.dumps(create({})).encode()
    status, body = sent(plugin, {"Content-Length": str(LONGEST)}, text.ljust(LONGEST))
    assert (status, json.loads(body)) == (200, {"Allow": True})
    assert sent(plugin, {"Content-Length": str(LONGEST + 1)}, b"")[0] == 413
    assert sent(plugin, {"Content-Length": "-1"}, b"")[0] == 413


@pytest.mark.parametrize("encoding", ["chunked", "identity", "gzip"])
@pytest.mark.parametrize("measured", [True, False])
def test_body_with_a_transfer_encoding_is_refused(
    plugin: Path, encoding: str, measured: bool
) -> None:
    """Its length would be that of the chunks, and the plugin would judge another body than dockerd
    carries out.
    """
    text = json.dumps(create({})).encode()
    headers = {"Transfer-Encoding": encoding}
    if measured:
        headers["Content-Length"] = str(len(text))
    # The plugin refuses the head, and reads no body.
    assert sent(plugin, headers, b"")[0] == 413


@pytest.mark.parametrize("profile", PROFILES)
def test_only_a_host_with_a_policy_has_the_plugin(profile: str) -> None:
    files = authorization.part(SecuritySpec(profile).settings()).files
    assert bool(files) == (profile == "hostile")


def test_builds_are_left_to_hosts_whose_dockerd_refuses_the_hosts_network_itself() -> None:
    assert json.loads(authorization.text(SecuritySpec("hostile").settings()))["build"] is True
    without_namespaces = SecuritySpec("hostile", user_namespaces="none").settings()
    assert json.loads(authorization.text(without_namespaces))["build"] is False
