# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every object of every route is held to a list of known keys, and clients get by with what the
lists allow.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from stockyard.guest.security import addresses
from stockyard.guest.security.authz.body import Denied, is_zero, parsed
from stockyard.guest.security.authz.policy import Policy
from stockyard.guest.security.authz.rules import ROUTES, Route, check
from stockyard.guest.security.authz.schema import Kind, Many, Map, Scalar, Struct, Zero
from tests.helpers.escape_attempts import ATTEMPTS, Attempt

POLICY = Policy(pools=tuple(base for base, _size in addresses.POOLS))
RECORDINGS = sorted((Path(__file__).parent / "requests").glob("*.json"))
ZEROS: list[Any] = [None, False, 0, "", [], {}, {"Deep": {"Deeper": [], "Number": 0}}]
SET: list[Any] = [True, 1, -1, "x", [0], [None], [{}], {"Deep": {"Deeper": 1}}]
Wrap = Callable[[Any], Any]


def request(
    method: str, uri: str, body: bytes = b"", headers: dict[str, str] | None = None
) -> dict[str, Any]:
    encoded = {"RequestBody": base64.b64encode(body).decode()} if body else {}
    return {"RequestMethod": method, "RequestUri": uri, "RequestHeaders": headers or {}, **encoded}


def verdict(method: str, uri: str, body: Any = None) -> str:
    """Return the refusal; nothing if the request is let through."""
    try:
        check(POLICY, request(method, uri, b"" if body is None else json.dumps(body).encode()))
    except Denied as denied:
        return str(denied)
    return ""


def uri_of(route: Route) -> str:
    path = route.path.replace("[^/]+", "x").replace(".+", "x")
    start, bracket, pattern = path.partition("(")
    first, _bar, _alternatives = pattern.partition("|")
    return f"/{start}{first}{pattern.partition(')')[2]}" if bracket else f"/{path}"


def _wrap_in(wrap: Wrap, name: str, value: Any) -> Any:
    return wrap({name: value})


def places(kind: Kind, wrap: Wrap, place: str) -> Iterator[tuple[str, Kind, Wrap]]:
    """Yield every place of a body: its path, its kind, and what puts a value there."""
    yield place, kind, wrap
    if isinstance(kind, Struct):
        for name, inner in kind.keys.items():
            yield from places(
                inner,
                partial(_wrap_in, wrap, name),
                f"{place}.{name}",
            )
    elif isinstance(kind, Many):
        yield from places(kind.kind, lambda value: wrap([value]), f"{place}[]")
    elif isinstance(kind, Map):
        yield from places(kind.kind, lambda value: wrap({"x": value}), f"{place}.*")


def whole(route: Route) -> Wrap:
    """A container needs an image before all else is looked at."""
    if route.path != "containers/create":
        return lambda value: value
    return lambda value: {"Image": "x", **value} if isinstance(value, dict) else value


BODIES = [pytest.param(route, route.body, id=route.path) for route in ROUTES if route.body]


@pytest.mark.parametrize("name", ATTEMPTS)
def test_attempt_to_get_out_is_refused(name: str) -> None:
    attempt: Attempt = ATTEMPTS[name]
    with pytest.raises(Denied):
        check(POLICY, request(attempt.method, attempt.uri, attempt.body, attempt.headers))


def test_attempts_are_at_least_a_hundred() -> None:
    assert len({(attempt.uri, attempt.body) for attempt in ATTEMPTS.values()}) >= 100


@pytest.mark.parametrize(("route", "body"), BODIES)
def test_object_with_an_unknown_key_is_refused_unless_the_key_is_zero(
    route: Route, body: Kind
) -> None:
    uri = uri_of(route)
    for place, kind, wrap in places(body, whole(route), ""):
        if isinstance(kind, Struct):
            plain = verdict(route.method, uri, wrap({}))
            for value in ZEROS:
                assert verdict(route.method, uri, wrap({"Brandnew": value})) == plain, place
            for value in SET:
                assert "brandnew is not on the list" in verdict(
                    route.method, uri, wrap({"BrandNew": value})
                ), place


def wrong_values(kind: Kind) -> list[Any]:
    if isinstance(kind, (Struct, Map)):
        return [1.5, "x", 7, True, ["x"], [[]]]
    if isinstance(kind, Many):
        return [1.5, 7, True, {"x": "y"}, *([] if kind.single else ["x"])]
    assert isinstance(kind, (Scalar, Zero))
    known = kind.types if isinstance(kind, Scalar) else ()
    return [
        1.5,
        ["x"],
        {"x": "y"},
        *(value for value in ("x", 7, True) if type(value) not in known),
    ]


@pytest.mark.parametrize(("route", "body"), BODIES)
def test_value_of_another_kind_is_refused(route: Route, body: Kind) -> None:
    for place, kind, wrap in places(body, whole(route), ""):
        for value in wrong_values(kind):
            assert verdict(route.method, uri_of(route), wrap(value)), (place, value)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_unknown_query_parameter_is_refused_unless_it_is_zero(route: Route) -> None:
    body = {"Image": "x"} if route.path == "containers/create" else {}
    uri = uri_of(route)
    plain = verdict(route.method, uri, body)
    for value in ("", "0", "false", "null", "[]"):
        assert verdict(route.method, f"{uri}?brandnew={value}", body) == plain
    assert "may not set 'brandnew'" in verdict(route.method, f"{uri}?brandnew=1", body)
    assert "may not set" in verdict(
        route.method, f"{uri}?{route.query.upper().partition(' ')[0] or 'X'}=1", body
    )


def test_query_with_a_name_twice_is_refused_where_dockerd_reads_the_first() -> None:
    assert "twice" in verdict("POST", "/images/create?fromImage=a&fromImage=b")
    assert "twice" in verdict("POST", "/build?networkmode=none&networkmode=bridge")
    assert verdict("POST", "/build?t=a&t=b") == ""
    assert "not written plainly" in verdict("POST", "/images/create?fromImage=%zz")


def test_keys_of_a_map_are_exact_and_those_of_a_structure_are_not() -> None:
    labels = b'{"Image": "x", "Labels": {"a": "1", "A": "2"}}'
    check(POLICY, request("POST", "/containers/create", labels))
    for twice in (labels.replace(b'"A"', b'"a"'), labels[:-1] + b', "labels": {}}'):
        with pytest.raises(Denied, match="twice"):
            check(POLICY, request("POST", "/containers/create", twice))


@pytest.mark.parametrize(
    ("text", "zero"),
    [
        ("null", True),
        ("false", True),
        ("0", True),
        ('""', True),
        ("[]", True),
        ("{}", True),
        ('{"a": {"b": 0}}', True),
        ("true", False),
        ("1", False),
        ('"0"', False),
        ("[0]", False),
        ("[null]", False),
        ('{"a": {"b": [0]}}', False),
    ],
)
def test_zero_value_is_that_of_go(text: str, zero: bool) -> None:
    assert is_zero(parsed(text)) is zero


def test_body_that_is_nested_deeply_is_refused() -> None:
    for depth in (300, 900, 100_000):
        body = b'{"Image": "x", "Brandnew": ' + b'{"a": ' * depth + b"1" + b"}" * depth + b"}"
        with pytest.raises(Denied):
            check(POLICY, request("POST", "/containers/create", body))


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_recorded_requests_of_a_client_are_allowed(path: Path) -> None:
    """Requests of clients, recorded as README.md in their directory says."""
    refusals = {}
    for line in json.loads(path.read_text()):
        if refusal := verdict(line["method"], line["uri"], line.get("body")):
            refusals[f"{line['method']} {line['uri']}"] = refusal
    assert refusals == {}


def test_recordings_are_of_each_client_that_must_work() -> None:
    names = {path.stem.partition("-")[0] for path in RECORDINGS}
    assert names == {"docker", "compose", "buildx", "dockerpy"}


def test_buildkit_is_refused_with_a_remedy() -> None:
    for path in ("/grpc", "/session"):
        assert "DOCKER_BUILDKIT=0" in verdict("POST", path)


SUBNET = "172.18.5.0/24"


@pytest.mark.parametrize(
    "config",
    [
        {"Subnet": SUBNET},
        {"Subnet": SUBNET, "Gateway": "172.18.5.1", "IPRange": "172.18.5.128/25"},
        {"Subnet": "172.18.5.9/24"},
        {"Subnet": "fd5a:7c1e:d0c8:7::/64"},
        {},
        {"Subnet": ""},
        {"Subnet": SUBNET, "AuxiliaryAddresses": {"a": "172.18.5.7"}},
    ],
)
def test_network_inside_the_pools_is_allowed(config: dict[str, Any]) -> None:
    assert verdict("POST", "/networks/create", {"Name": "x", "IPAM": {"Config": [config]}}) == ""


@pytest.mark.parametrize(
    "config",
    [
        {"Subnet": "10.0.2.0/24"},
        {"Subnet": "0.0.0.0/0"},
        {"Subnet": "169.254.0.0/16"},
        {"Subnet": "127.0.0.0/8"},
        {"Subnet": "172.16.0.0/12"},
        {"Subnet": "192.168.122.0/24"},
        {"Subnet": "::/0"},
        {"Subnet": "fe80::/64"},
        {"Subnet": "::ffff:10.0.2.0/120"},
        {"Subnet": "fd5a:7c1e:d0c8::/48"},
        {"Subnet": "nonsense"},
        {"subnet": "10.0.2.0/24"},
        {"Subnet": SUBNET, "Gateway": "10.0.2.2"},
        {"Subnet": SUBNET, "IPRange": "10.0.2.0/25"},
        {"Subnet": SUBNET, "AuxiliaryAddresses": {"a": "10.0.2.3"}},
        {"Gateway": "10.0.2.2"},
        {"Subnet": "fd5a:7c1e:d0c8::%eth0/64"},
    ],
)
def test_network_outside_the_pools_is_refused(config: dict[str, Any]) -> None:
    refusal = verdict(
        "POST", "/networks/create", {"Name": "x", "IPAM": {"Config": [{"Subnet": SUBNET}, config]}}
    )
    assert refusal.startswith("IPAM.Config.")
