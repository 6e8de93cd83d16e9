# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Texts of clients that are no Unicode: Docker reads them with U+FFFD, and so does the endpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stockyard.endpoint.calls import Reply, parse_json
from tests.helpers.endpoint_bench import BUSYBOX, Bench, play

HALF = "\ud800"


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/containers/create", BUSYBOX | {"Image": HALF}, 404),
        ("/containers/create", BUSYBOX | {"Image": f"{HALF}@sha256:{'0' * 64}"}, 404),
        ("/containers/create", BUSYBOX | {"HostConfig": {"VolumesFrom": [HALF]}}, 404),
        (
            "/containers/create",
            BUSYBOX | {"HostConfig": {"NetworkMode": f"container:{HALF}"}},
            404,
        ),
        ("/containers/create", BUSYBOX | {"HostConfig": {"NetworkMode": HALF}}, 400),
        ("/containers/create", BUSYBOX | {"HostConfig": {"Binds": [f"{HALF}:/data"]}}, 400),
        ("/volumes/create", {"Name": HALF}, 400),
        ("/networks/create", {"Name": HALF}, 201),
    ],
)
def test_half_of_a_surrogate_pair_is_no_failure_of_the_endpoint(
    tmp_path: Path, path: str, body: dict[str, Any], status: int
) -> None:
    async def story(bench: Bench) -> None:
        assert (await bench.call("POST", path, body)).status == status
        assert (await bench.create("web")).status == 201

    play(tmp_path, story)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (
            rb'{"\ud800": ["\uDFFF", "\ud83d\ude00", "\\ud800"]}',
            {"\ufffd": ["\ufffd", "\U0001f600", r"\ud800"]},
        ),
        (b'"\xed\xa0\x80"', "\ufffd\ufffd\ufffd"),
        (b'"\xff"', "\ufffd"),
    ],
)
def test_json_is_read_as_go_reads_it(text: bytes, value: Any) -> None:
    assert parse_json(text) == value
    assert Reply(200, text).json() == value


def test_no_text_of_another_encoding_is_json() -> None:
    """Python guesses the encoding of bytes, and Go does not."""
    with pytest.raises(json.JSONDecodeError):
        parse_json('{"Image": "busybox"}'.encode("utf-16"))
