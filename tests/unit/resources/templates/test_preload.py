# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Preloads: valid declarations, the digest, and the answers of a registry."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import tarfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stockyard import ImageError, ImageSpec, InvalidInput, TemplateSpec, Yard
from stockyard.clock import Deadline
from stockyard.guest.agent import provision
from stockyard.guest.archive import pack_tree
from stockyard.guest.recipe import declared_digest, recipe
from stockyard.model.preload import Preload, reference
from stockyard.providers.common.preloaded import write_items
from stockyard.providers.common.registry_images import fetch
from stockyard.resources.templates.preload import resolved
from tests.helpers.samples import HOSTILE

DIGEST = "a" * 64


@pytest.mark.parametrize("name", [n for n in HOSTILE if n not in ("", "a-", "A/", "a.b", "a/b")])
def test_names_that_docker_does_not_know(name: str) -> None:
    with pytest.raises(InvalidInput):
        Preload("rootfs", "/x", name)


@pytest.mark.parametrize(
    "name", ["app", "app:1", "registry.example:5000/team/app_x:v1.0-rc", "localhost/a"]
)
def test_names_that_docker_knows(name: str) -> None:
    assert Preload("rootfs", "/x", name).name == name


@pytest.mark.parametrize(
    "text",
    [
        "",
        "app",
        "app:1",
        "reg/app:1",
        "reg/app@sha256:12",
        f"reg/app:1@sha256:{DIGEST}",
        f"ftp://reg/a@sha256:{DIGEST}",
        f"reg/../a@sha256:{DIGEST}",
        f"user@reg/a@sha256:{DIGEST}",
        f"reg/a@sha256:{DIGEST}\n",
        f"reg a/b@sha256:{DIGEST}",
    ],
)
def test_images_are_named_by_their_digest_alone(text: str) -> None:
    with pytest.raises(InvalidInput):
        Preload("image", text, "app")


def test_image_reference_contains_its_registry() -> None:
    parsed = reference(f"registry.example:5000/team/app@sha256:{DIGEST}")
    assert (parsed.registry, parsed.name, parsed.digest) == (
        "https://registry.example:5000",
        "team/app",
        DIGEST,
    )
    assert reference(f"http://localhost/app@sha256:{DIGEST}").registry == "http://localhost"


def test_contradictory_preloads_are_refused() -> None:
    for bad in (
        ("archive", "/x", "app"),
        ("rootfs", "/x", ""),
        ("build", "", "app"),
        ("tag", "/x", "app"),
    ):
        with pytest.raises(InvalidInput):
            Preload(*bad)
    with pytest.raises(InvalidInput, match="requires docker: running"):
        TemplateSpec("base", docker="stopped", image=ImageSpec(preload=(Preload("archive", "/x"),)))
    with pytest.raises(InvalidInput, match="finished machine"):
        ImageSpec(source="vm", commands=("true",))


def declared(*items: Preload, commands: tuple[str, ...] = ()) -> TemplateSpec:
    return TemplateSpec("base", image=ImageSpec(preload=items, commands=commands))


def test_the_digest_is_of_the_content_and_not_of_its_place(tmp_path: Path) -> None:
    original, copy = tmp_path / "one.tar", tmp_path / "two.tar"
    original.write_bytes(b"same")
    copy.write_bytes(b"same")
    first = declared_digest(resolved(declared(Preload("archive", str(original)))))
    assert first == declared_digest(resolved(declared(Preload("archive", str(copy)))))
    assert first != declared_digest(resolved(declared(Preload("rootfs", str(copy), "app"))))
    copy.write_bytes(b"other")
    assert first != declared_digest(resolved(declared(Preload("archive", str(copy)))))
    assert declared_digest(declared(commands=("true",))) != declared_digest(
        declared(commands=("false",))
    )
    assert declared_digest(declared()) != declared_digest(declared(commands=("true",)))


def test_a_directory_counts_by_its_files(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    (tmp_path / "sub" / "run").write_text("x")
    item = Preload("build", str(tmp_path), "app")

    def digest() -> str:
        return resolved(declared(item)).image.preload[0].digest

    first = digest()
    (tmp_path / "sub" / "run").touch()
    assert digest() == first
    (tmp_path / "sub" / "run").chmod(0o755)
    assert digest() != first


def test_missing_preload_file_is_reported(tmp_path: Path, bare: Yard) -> None:
    with pytest.raises(InvalidInput, match="cannot be read"):
        bare.templates.apply(declared(Preload("archive", str(tmp_path / "gone"))), check=True)
    with pytest.raises(InvalidInput, match="no Dockerfile"):
        bare.templates.apply(declared(Preload("build", str(tmp_path), "app")))
    assert bare.templates.list() == ()


def test_a_changed_archive_asks_for_a_new_generation(tmp_path: Path, bare: Yard) -> None:
    file = tmp_path / "app.tar"
    file.write_bytes(b"1")
    spec = declared(Preload("archive", str(file)))
    assert bare.templates.apply(spec).changed
    assert not bare.templates.apply(spec).changed
    file.write_bytes(b"2")
    assert bare.templates.apply(spec, check=True).changed
    assert bare.templates.apply(spec).changed


def test_commands_are_written_to_the_directory_of_the_agent() -> None:
    files = recipe(ImageSpec(commands=("echo a", "echo 'b\nc'"))).files
    assert files[f"/{provision.COMMANDS}"].text == "echo a\necho 'b\nc'\n"


def test_commands_run_once_and_their_failure_is_reported(tmp_path: Path) -> None:
    file = tmp_path / provision.COMMANDS
    file.parent.mkdir(parents=True)
    file.write_text(f"echo done > {tmp_path}/mark\n")
    assert provision.provision(str(tmp_path), 1e6 + time.monotonic()) == ["commands"]
    assert (tmp_path / "mark").read_text() == "done\n"
    assert provision.provision(str(tmp_path), 1e6 + time.monotonic()) == []
    file.write_text("echo no such thing >&2\nfalse\necho never > mark\n")
    with pytest.raises(RuntimeError, match="no such thing"):
        provision.provision(str(tmp_path), 1e6 + time.monotonic())


def test_each_kind_is_given_to_docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[tuple[list[str], bytes]] = []

    def run(command: list[str], end: float, source: Any) -> None:
        requests.append((command, source.read()))

    monkeypatch.setattr(provision, "_run", run)
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.tar").write_bytes(b"archive")
    (folder / "Dockerfile").write_text("FROM a")
    items = (Preload("archive", str(folder / "a.tar")), Preload("build", str(folder), "app:1"))
    place = tmp_path / "root" / provision.PLACE
    place.parent.mkdir(parents=True)
    write_items(resolved(declared(*items)).image.preload, place, Deadline(60))
    assert provision.load(str(tmp_path / "root"), 1e6 + time.monotonic()) == ["001.tar", "app:1"]
    assert [command[:2] for command, _data in requests] == [["docker", "load"], ["docker", "build"]]
    assert requests[0][1] == b"archive"
    with tarfile.open(fileobj=io.BytesIO(requests[1][1])) as context:
        assert context.getnames() == ["Dockerfile", "a.tar"]
    assert not place.exists()
    assert provision.load(str(tmp_path / "root"), 1e6 + time.monotonic()) == []


def test_file_that_changes_during_its_copy_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.tar"
    file.write_bytes(b"1")
    items = resolved(declared(Preload("archive", str(file)))).image.preload
    file.write_bytes(b"2")
    with pytest.raises(ImageError, match="changed during the build"):
        write_items(items, tmp_path / "place", Deadline(60))


def test_a_tree_is_packed_the_same_every_time(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / name).write_text(name)
    (tmp_path / "link").symlink_to("a")
    first, second = io.BytesIO(), io.BytesIO()
    pack_tree(first, tmp_path)
    pack_tree(second, tmp_path)
    assert first.getvalue() == second.getvalue()
    with tarfile.open(fileobj=io.BytesIO(first.getvalue())) as archive:
        assert [(m.name, m.uid, m.mtime) for m in archive] == [
            ("a", 0, 0),
            ("b", 0, 0),
            ("link", 0, 0),
        ]


class Registry:
    """A registry of a few parts, which wants a token if told so, and lies if told so."""

    def __init__(self, *, token: str = "") -> None:
        self.parts: dict[str, bytes] = {}
        self.token = token
        self.lies: set[str] = set()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *_arguments: Any) -> None:
                return

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def add(self, data: bytes) -> str:
        digest = hashlib.sha256(data).hexdigest()
        self.parts[digest] = data
        return f"sha256:{digest}"

    def image(self, text: str = "layer") -> str:
        config, layer = self.add(b'{"os": "linux"}'), self.add(text.encode())
        manifest = {"config": {"digest": config}, "layers": [{"digest": layer}, {"digest": layer}]}
        return self.add(json.dumps(manifest).encode()).removeprefix("sha256:")

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        if request.path.startswith("/token"):
            body = json.dumps({"token": self.token}).encode()
        elif self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            request.send_response(401)
            request.send_header(
                "WWW-Authenticate", f'Bearer realm="{self.url}/token",service="s",scope="pull"'
            )
            request.end_headers()
            return
        else:
            digest = request.path.rpartition("sha256:")[2]
            if digest not in self.parts or not request.path.startswith("/v2/team/app/"):
                request.send_error(404)
                return
            body = b"lies" if digest in self.lies else self.parts[digest]
        request.send_response(200)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)


@pytest.fixture
def registry() -> Iterator[Registry]:
    fake_registry = Registry()
    yield fake_registry
    fake_registry.server.shutdown()
    fake_registry.server.server_close()


def pull(registry: Registry, digest: str, target: Path) -> dict[str, bytes]:
    fetch(reference(f"{registry.url}/team/app@sha256:{digest}"), "app:1", target, Deadline(30))
    with tarfile.open(target) as archive:
        return {m.name: archive.extractfile(m).read() for m in archive}  # type: ignore[union-attr]


@pytest.mark.parametrize("token", ["", "secret"])
def test_an_image_is_fetched_whole(registry: Registry, tmp_path: Path, token: str) -> None:
    registry.token = token
    pulled = pull(registry, registry.image(), tmp_path / "a.tar")
    (listed,) = json.loads(pulled["manifest.json"])
    assert listed["RepoTags"] == ["app:1"]
    assert [pulled[name] for name in listed["Layers"]] == [b"layer", b"layer"]
    assert pulled[listed["Config"]] == b'{"os": "linux"}'
    assert [p.name for p in tmp_path.iterdir()] == ["a.tar"]


def test_of_a_list_the_fitting_one_is_taken(registry: Registry, tmp_path: Path) -> None:
    own_image, other_image = registry.image("mine"), registry.image("other")
    entries = [
        {"digest": f"sha256:{other_image}", "platform": {"os": "linux", "architecture": "arm64"}},
        {"digest": f"sha256:{own_image}", "platform": {"os": "linux", "architecture": "amd64"}},
    ]
    digest = registry.add(json.dumps({"manifests": entries}).encode()).removeprefix("sha256:")
    assert b"mine" in pull(registry, digest, tmp_path / "a.tar").values()
    alone = registry.add(json.dumps({"manifests": entries[:1]}).encode()).removeprefix("sha256:")
    with pytest.raises(ImageError, match="linux/amd64"):
        pull(registry, alone, tmp_path / "b.tar")


def test_content_with_another_digest_is_refused(registry: Registry, tmp_path: Path) -> None:
    digest = registry.image()
    for part in list(registry.parts):
        registry.lies = {part}
        with pytest.raises(ImageError, match="has the digest"):
            pull(registry, digest, tmp_path / "a.tar")
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "null",
        '{"config": 1, "layers": []}',
        '{"manifests": [{}]}',
        '{"config": {"digest": "../x"}, "layers": []}',
    ],
)
def test_a_manifest_that_makes_no_sense(registry: Registry, tmp_path: Path, text: str) -> None:
    digest = registry.add(text.encode()).removeprefix("sha256:")
    with pytest.raises(ImageError):
        pull(registry, digest, tmp_path / "a.tar")
    with pytest.raises(ImageError, match="404"):
        pull(registry, "0" * 64, tmp_path / "a.tar")


def test_unreachable_registry_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="did not return the image"):
        fetch(
            reference(f"http://127.0.0.1:1/a@sha256:{DIGEST}"),
            "app",
            tmp_path / "a.tar",
            Deadline(5),
        )


def test_origin_of_a_preload_is_not_recorded(tmp_path: Path, bare: Yard) -> None:
    file = tmp_path / "a.tar"
    file.write_bytes(b"1")
    (built,) = bare.templates.apply(replace(declared(Preload("archive", str(file))))).objects
    assert str(tmp_path) not in str(built.source)
