# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds in machines of their own, with stand-ins for dockerd in the machines."""

from __future__ import annotations

import asyncio
import io
import json
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stockyard.endpoint.calls import parse_call, with_query
from stockyard.endpoint.heads import parse_head
from stockyard.endpoint.image_archives import without_names
from stockyard.endpoint.machines import Fork, Machine
from stockyard.errors import OperationRefused, PoolQuotaExceeded
from stockyard.guest.security.reader.streams import Peer
from tests.helpers.endpoint_bench import BUSYBOX, Bench, play, read_head

CONTEXT = b"context" * 20000


async def build(bench: Bench, query: str, body: bytes = CONTEXT) -> tuple[int, bytes]:
    """Build as Docker's client does, and return the status and the output."""
    peer = await bench.open()
    await peer.send(f"POST /v1.41/build{query} HTTP/1.1\r\nHost: x\r\n".encode())
    await peer.send(b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
    answer = await read_head(peer)
    if answer.headers.get("transfer-encoding") == "chunked":
        return answer.status, await _chunks(peer)
    return answer.status, await peer.reader.readexactly(int(answer.headers["content-length"]))


async def _chunks(peer: Peer) -> bytes:
    output = b""
    while size := int(await peer.reader.readuntil(b"\r\n"), 16):
        output += (await peer.reader.readexactly(size + 2))[:-2]
    return output


def apart(bench: Bench) -> None:
    bench.machines.is_trusted = False


@pytest.mark.parametrize("query", ["?t=team/web:v1", "?t=reg:5000/web", ""])
def test_only_the_image_of_a_build_returns_to_the_image_host(tmp_path: Path, query: str) -> None:
    async def story(bench: Bench) -> None:
        apart(bench)
        before = dict(bench.machines.host.images)
        status, output = await build(bench, query)
        assert (status, b"Successfully built" in output) == (200, True)
        assert not any(call.endswith("/build") for call in bench.machines.host.calls)
        await bench.settled(0)
        images = bench.machines.host.images
        (fork,) = bench.machines.forks
        assert (fork.builds, fork.container) == (True, "")
        new = {name for name in images if not name.startswith("sha256:")} - set(before)
        expected = {"?t=team/web:v1": {"team/web:v1"}, "?t=reg:5000/web": {"reg:5000/web:latest"}}
        assert new == expected.get(query, set())
        assert len(set(images.values())) == 2
        # A container of the new image needs a new generation.
        assert (await bench.create("web", {"Image": next(reversed(images))})).status == 201
        assert bench.machines.generations == 2

    play(tmp_path, story)


def test_a_build_cannot_replace_another_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story(bench: Bench) -> None:
        apart(bench)
        before = bench.machines.host.images["busybox"]
        fork = bench.machines.fork

        async def fork_hostile(request: Fork) -> Machine:
            machine = await fork(request)
            bench.machines.running[machine.name].claimed_names = ("busybox",)
            return machine

        monkeypatch.setattr(bench.machines, "fork", fork_hostile)
        await build(bench, "?t=evil")
        assert "evil:latest" in bench.machines.host.images
        assert bench.machines.host.images["busybox"] == before

    play(tmp_path, story)


def test_a_failed_build_returns_nothing(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        apart(bench)
        before = dict(bench.machines.host.images)
        status, output = await build(bench, "?t=web&remote=http://192.0.2.1/x")
        assert (status, b"errorDetail" in output) == (200, True)
        await bench.settled(0)
        assert bench.machines.host.images == before

    play(tmp_path, story)


def test_a_build_without_room_is_refused(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        apart(bench)
        bench.machines.failures.append(OperationRefused("the pool is full."))
        status, output = await build(bench, "")
        assert (status, json.loads(output)["message"]) == (409, "the pool is full.")

    play(tmp_path, story)


def test_a_build_replaces_a_spare_in_a_full_pool(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        apart(bench)
        await bench.settled(1)
        bench.machines.failures.append(PoolQuotaExceeded("the pool is full."))
        assert (await build(bench, "?t=web"))[0] == 200
        assert bench.machines.deleted[0] == "machine-1"

    play(tmp_path, story, spares=1)


def test_a_client_that_disconnects_leaves_no_machine(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        apart(bench)
        peer = await bench.open()
        await peer.send(b"POST /build HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\nhalf")
        await bench.settled(1)
        peer.abort()
        await bench.settled(0)

    play(tmp_path, story)


def test_a_trusted_image_host_builds_itself(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        assert (await build(bench, "?t=web"))[0] == 200
        assert not bench.machines.forks
        assert "web" in bench.machines.host.images

    play(tmp_path, story)


@pytest.mark.parametrize("is_trusted", [True, False])
def test_a_build_reaches_the_containers_of_its_network(tmp_path: Path, is_trusted: bool) -> None:
    async def story(bench: Bench) -> None:
        bench.machines.is_trusted = is_trusted
        network = (await bench.call("POST", "/v1.41/networks/create", {"Name": "backend"})).json
        host = {"HostConfig": {"NetworkMode": "backend"}}
        assert (await bench.create("web", BUSYBOX | host)).status == 201
        (machine,) = bench.machines.running.values()
        assert (await build(bench, f"?t=web:1&networkmode={network['Id']}"))[0] == 200
        assert (await build(bench, "?t=web:2&networkmode=container:web"))[0] == 200
        assert machine.calls.count("POST /build") == 2
        assert {"web:1", "web:2"} <= bench.machines.host.images.keys()
        assert len(bench.machines.forks) == 1
        status, output = await build(bench, "?networkmode=container:missing")
        assert (status, json.loads(output)["message"]) == (404, "No such container: missing")

    play(tmp_path, story)


@pytest.mark.parametrize("query", ["", "&version=2"])
def test_a_build_that_reaches_no_container_is_on_the_image_host(tmp_path: Path, query: str) -> None:
    async def story(bench: Bench) -> None:
        await bench.call("POST", "/v1.41/networks/create", {"Name": "backend"})
        if query:
            host = {"HostConfig": {"NetworkMode": "backend"}}
            assert (await bench.create("web", BUSYBOX | host)).status == 201
        for mode in ("backend", "missing", "none"):
            assert (await build(bench, f"?t=web&networkmode={mode}{query}"))[0] == 200
        assert bench.machines.host.calls.count("POST /build") == 3

    play(tmp_path, story)


def test_other_parameters_of_a_call_stay() -> None:
    head = b"POST /v1.41/build?t=a%3A1&t=b&networkmode=c0ffee HTTP/1.1\r\nHost: x\r\n\r\n"
    call = parse_call(parse_head(head), (1, 45))
    changed = with_query(call, networkmode="back end")
    line = b"POST /v1.41/build?t=a%3A1&t=b&networkmode=back+end HTTP/1.1"
    assert changed.request.head.partition(b"\r\n")[0] == line
    assert changed.request.head.partition(b"\r\n")[2] == call.request.head.partition(b"\r\n")[2]
    assert changed.query == {"t": ["a:1", "b"], "networkmode": ["back end"]}


def archive(*members: tarfile.TarInfo | tuple[str, bytes]) -> bytes:
    """Return an archive of links, and of files with their content."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as writer:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                writer.addfile(member)
                continue
            info = tarfile.TarInfo(member[0])
            info.size = len(member[1])
            writer.addfile(info, io.BytesIO(member[1]))
    return file.getvalue()


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def rewritten(data: bytes) -> bytes:
    async def blocks() -> AsyncIterator[bytes]:
        for start in range(0, len(data), 7000):
            yield data[start : start + 7000]

    async def collect() -> bytes:
        return b"".join([block async for block in without_names(blocks(), ["sha256:base"])])

    return asyncio.run(collect())


def test_names_and_foreign_parents_are_removed_from_an_archive() -> None:
    entry = {"Config": "1.json", "RepoTags": ["debian:latest"], "Layers": ["1/layer.tar"]}
    manifest = json.dumps([entry | {"Parent": "sha256:base"}, entry | {"Parent": "sha256:evil"}])
    data = archive(
        ("1/layer.tar", b"layer" * 50000),
        link("2/layer.tar", "../1/layer.tar"),
        ("repositories", b"{}"),
        ("index.json", b"{}"),
        ("./manifest.json", manifest.encode()),
    )
    with tarfile.open(fileobj=io.BytesIO(rewritten(data))) as copy:
        assert copy.getnames() == ["1/layer.tar", "2/layer.tar", "./manifest.json"]
        layer, text = copy.extractfile("1/layer.tar"), copy.extractfile("./manifest.json")
        assert layer
        assert text
        assert layer.read() == b"layer" * 50000
        known, foreign = json.load(text)
    assert known["RepoTags"] is foreign["RepoTags"] is None
    assert known["Parent"] == "sha256:base"
    assert "Parent" not in foreign


@pytest.mark.parametrize(
    "data",
    [
        archive(link("manifest.json", "other.json")),
        archive(link("folder", "."), ("folder/manifest.json", b"[]")),
        archive(link("manifest.json", "other.json", tarfile.LNKTYPE)),
        archive(("a/../manifest.json", b"[]")),
        archive(("/manifest.json", b"[]")),
        archive(("manifest.json", b"{}")),
        archive(("manifest.json", b" " * (1 << 21))),
        archive(("manifest.json", b"[]")) + b"x" * (1 << 21),
        archive(link("device", "", tarfile.CHRTYPE)),
        archive(("manifest.json", b"[" * 100000)),
        archive((("long/" * (1 << 19))[:-1], b"")),
        archive(*((f"{number}", b"") for number in range(10001))),
    ],
    ids=[
        "link",
        "linked folder",
        "hard link",
        "other path",
        "root",
        "form",
        "length",
        "more data",
        "device",
        "nesting",
        "long header",
        "many members",
    ],
)
def test_archives_that_hide_a_manifest_are_refused(data: bytes) -> None:
    with pytest.raises((ValueError, OSError)):
        rewritten(data)
