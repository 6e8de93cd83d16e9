# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""daemon.json: a file with which dockerd would not start is refused before anything is built."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stockyard import ImageSpec, InvalidInput, TemplateSpec
from stockyard.guest.recipe import declared_digest
from stockyard.model import daemon_json


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "null", "1", '"x"', "{'a': 1}", '{"mtu": NaN}', '{"icc": false,}', "[" * 100_000],
    ids=lambda text: text[:12],
)
def test_file_without_a_json_object_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"daemon\.json"):
        daemon_json.check_file(text)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"icc": "no"}, 'icc is "no", and must be true or false'),
        ({"live-restore": 1}, "live-restore is 1, and must be true or false"),
        ({"mtu": "1400"}, 'mtu is "1400", and must be a whole number'),
        ({"mtu": True}, "mtu is true, and must be a whole number"),
        ({"registry-mirrors": "https://x"}, "registry-mirrors is .* must be a list"),
        ({"log-opts": ["max-size"]}, "log-opts is .* must be an object"),
        ({"log-opts": {"max-file": 3}}, "max-file is 3, and must be a text"),
        ({"data-root": ["/srv"]}, "data-root is .* must be a text"),
    ],
)
def test_value_of_another_type_is_refused_by_key_and_value(
    settings: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InvalidInput, match=reason):
        daemon_json.check_file(json.dumps(settings))


@pytest.mark.parametrize("key", ["hosts", "containerd"])
def test_setting_that_the_unit_gives_by_a_flag_is_refused(key: str) -> None:
    value = ["fd://"] if key == "hosts" else "/run/containerd/containerd.sock"
    with pytest.raises(InvalidInput, match=f"{key} cannot be set"):
        daemon_json.check_file(json.dumps({key: value}))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {
            "icc": False,
            "mtu": 1400,
            "log-opts": {"max-file": "3"},
            "registry-mirrors": [],
            "features": {"x": True},
        },
        # Newer dockerds know more keys than these.
        {"of-a-later-docker": {"any": ["thing"]}},
        {"icc": None},
    ],
)
def test_file_that_dockerd_accepts_is_accepted(settings: dict[str, Any]) -> None:
    daemon_json.check_file(json.dumps(settings))


def test_template_with_a_broken_daemon_json_is_refused_before_the_build() -> None:
    with pytest.raises(InvalidInput, match=r"daemon\.json: icc"):
        declared_digest(
            TemplateSpec("base", image=ImageSpec(files={daemon_json.PATH: '{"icc": "no"}'}))
        )
