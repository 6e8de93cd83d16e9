# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Valid and invalid entries of ``egress_allow``."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stockyard import HostSpec, InvalidInput
from stockyard.hypervisor import records
from stockyard.model import codec
from stockyard.model.destinations import Destination, destination
from tests.helpers.samples import HOSTILE, host_record


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("10.9.8.7", Destination(network="10.9.8.7/32")),
        ("10.9.8.0/24:443", Destination(network="10.9.8.0/24", port=443)),
        ("Registry.Example.org", Destination(name="registry.example.org")),
        ("*.example.org:65535", Destination(name="*.example.org", port=65535)),
        ("_acme.xn--bcher-kva.example", Destination(name="_acme.xn--bcher-kva.example")),
        ("registry", Destination(name="registry")),
    ],
)
def test_destination_is_read(value: str, expected: Destination) -> None:
    assert destination(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        *(v for v in HOSTILE if v not in ("A", "a.b")),
        *(
            "*",
            "*.",
            "a.*.org",
            "*a.org",
            ".org",
            "a..b",
            "a b",
            "a-.org",
            "-a.org",
            "bücher.org",
            "\u212a.org",
        ),
        *("10.0.0.300", "10.0.0", "1.2.3.4.5", "10.0.0.0/33", "10.0.0.1/8", "0x7f.1"),
        *("10.0.0.1:0", "10.0.0.1:65536", "10.0.0.1:", "a.org:http", "fd00::1", "[fd00::1]:80"),
        *("https://a.org", "a.org/path", "a" * 64 + ".org", ".".join(["abcdefg"] * 33)),
        *("127.0.0.1", "169.254.169.254", "0.0.0.0/0", "224.0.0.251", "198.18.0.1", "160.0.0.0/3"),
        *(7, None),
    ],
)
def test_value_that_is_no_destination_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        destination(value)
    assert "egress_allow" in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"egress_allow": ("10.0.0.1",)}, "does not apply to egress none"),
        (
            {"egress": "proxy", "egress_proxy": "a:1", "egress_allow": ("10.0.0.1",)},
            "does not apply to egress proxy",
        ),
        ({"egress": "allow"}, "no destinations"),
        (
            {"egress": "allow", "egress_allow": tuple(f"{'a' * 60}{n}.org" for n in range(200))},
            "more than 8192 characters",
        ),
        ({"egress": "allow", "egress_allow": ("127.0.0.1",)}, "cannot be allowed"),
        ({"egress": "open", "egress_allow": ("203.0.113.7",)}, "not in a private range"),
        ({"egress": "open", "egress_allow": ("10.0.0.0/7",)}, "not in a private range"),
        ({"egress": "open", "egress_allow": ("a.example.org",)}, "no rules about names"),
        ({"egress": "open", "egress_allow": ("10.0.0.1", "10.0.0.1/32")}, "declared twice"),
        (
            {"egress": "open", "egress_allow": tuple(f"10.0.{n}.0/24" for n in range(257))},
            "257 entries",
        ),
    ],
)
def test_contradictory_destinations_are_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason) as caught:
        HostSpec(**options)
    assert caught.value.remedy


def test_a_record_from_before_is_read_and_stays_the_same() -> None:
    record = host_record()
    assert "egress_allow" not in codec.to_dict(record)["spec"]
    allowed = host_record(spec=HostSpec(egress="open", egress_allow=("10.0.0.0/8", "10.1.0.1:80")))
    data = {"kind": "host", "schema": records.SCHEMA, **codec.to_dict(allowed)}
    assert records.decode(json.dumps(data)) == allowed
