# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The harness of the endpoint's acceptance: it resumes, records every outcome, and adds up."""

from __future__ import annotations

import hashlib
import io
import json
import socketserver
import sys
import tarfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from stockyard import HostInfo, Yard
from tests.endpoint_suite import __main__ as harness
from tests.endpoint_suite import images, servers
from tests.endpoint_suite.results import (
    MOST_DIFFERENCES,
    RecordStore,
    ServerResults,
    compare,
    document,
    load_differences,
    summary,
    table,
)
from tests.endpoint_suite.suite import Suite, part_of
from tests.helpers.clocks import BriskClock

FILE = "a_test.py"
PREFIX = f"tests/integration/{FILE}::"
# Options and marker of pytest-timeout, which this project's environment does not have.
CONFTEST = """
def pytest_addoption(parser):
    parser.addoption("--timeout")
    parser.addoption("--timeout-method")
"""
HELPERS = "def wait_on_condition(condition, delay=0.1, timeout=40):\n    pass\n"
CLIENT = """
class APIClient:
    def __init__(self, base_url=None, timeout=60):
        self.timeout = timeout
"""
TESTS = """
import docker
import os
import pytest
from tests.helpers import wait_on_condition

@pytest.fixture
def broken_at_end():
    yield
    raise RuntimeError("at the end")

@pytest.fixture
def broken():
    raise RuntimeError("at the start")

def test_passes():
    assert os.environ["DOCKER_HOST"] == "unix:///x" and os.environ["HOME"] != "HOME"
    # docker-py keeps contexts next to this file.
    assert os.path.isfile(os.path.expanduser("~/.docker/config.json"))

def test_fails():
    assert False, "on purpose"

@pytest.mark.skip("not here")
def test_skips(): ...

def test_breaks(broken): ...

def test_breaks_at_end(broken_at_end): ...

@pytest.mark.timeout(5)
def test_scales(request):
    assert request.node.get_closest_marker("timeout").args == (15.0,)
    assert wait_on_condition.__defaults__ == (0.1, 120.0)
    assert (docker.APIClient().timeout, docker.APIClient(timeout=4).timeout) == (180.0, 4)

class SwarmTest:
    def test_other(self): ...
"""


def outcome(word: str) -> dict[str, Any]:
    return {"outcome": word, "seconds": 1.0, "reason": ""}


def results(**words: str) -> ServerResults:
    tests = {f"{PREFIX}{name}": outcome(word) for name, word in words.items()}
    return ServerResults("identity", {"Version": "26.1"}, "commit", tests)


def write_suite(folder: Path, tests: str) -> Suite:
    """Return a suite of the layout of docker-py's, with one file."""
    integration = folder / "tests" / "integration"
    integration.mkdir(parents=True)
    for package in (integration.parent, integration):
        (package / "__init__.py").touch()
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    timeout: seconds\n")
    (folder / "tests" / "helpers.py").write_text(HELPERS)
    (folder / "docker.py").write_text(CLIENT)
    (integration / FILE).write_text(tests)
    return Suite(Path(sys.executable), folder, scale=3.0)


@pytest.fixture
def store(tmp_path: Path) -> RecordStore:
    return RecordStore(tmp_path / "records")


def test_outcome_of_every_phase_is_recorded(tmp_path: Path, store: RecordStore) -> None:
    suite = write_suite(tmp_path, TESTS)
    files = suite.collect()
    assert list(files) == [FILE]
    server = servers.Server("bare", "unix:///x", "identity")
    store.begin("bare", ServerResults("identity"))
    deadline = time.time() + 100
    assert suite.run(FILE, files[FILE], server.docker_host, store.path("bare"), deadline)
    recorded = store.load("bare")
    assert recorded
    assert {test.removeprefix(PREFIX): r["outcome"] for test, r in recorded.tests.items()} == {
        "test_passes": "passed",
        "test_fails": "failed",
        "test_skips": "skipped",
        "test_breaks": "failed",
        "test_breaks_at_end": "failed",
        "test_scales": "passed",
    }
    assert "on purpose" in recorded.tests[f"{PREFIX}test_fails"]["reason"]


UNIX_SERVER = """
import http.server, socketserver, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def address_string(self): return "client"
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"Version": "26.1"}')
socketserver.UnixStreamServer(sys.argv[2], Handler).serve_forever()
"""


@pytest.mark.parametrize("name", ["bare", "endpoint"])
def test_server_has_hosts_and_a_socket_until_its_context_ends(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    """Programs are stand-ins; hosts are on a hypervisor without guests."""

    def open_yard(_uri: str, **options: Any) -> Yard:
        pki = options["pki_dir"]
        return Yard(f"memory://{tmp_path}/hypervisor", pki_dir=pki, clock=BriskClock())

    def tunnel(_host: HostInfo, _port: int, *options: str) -> list[str]:
        path = options[1].partition(":")[0]
        return [*serving, "--unix", path]

    serving = [sys.executable, "-c", UNIX_SERVER]
    monkeypatch.setattr(servers, "Yard", open_yard)
    monkeypatch.setattr(servers, "ENDPOINT", serving)
    monkeypatch.setattr(servers, "tunnel", tunnel)
    with (
        getattr(servers, name)(tmp_path, 5000, 2) as group,
        open_yard("", pki_dir=str(tmp_path)) as opened,
    ):
        for server in group:
            assert server.facts()["Version"] == "26.1"
            server.check()
        assert len({server.docker_host for server in group}) == len(opened.hosts.list()) == 2
        generation = opened.templates.get("endpoint-suite").generation
        identity = {"bare": generation, "endpoint": servers.source_digest()}[name]
        assert {server.identity for server in group} == {identity}
        assert all(server.is_own for server in group)
    for server in group:
        with pytest.raises(OSError, match="No such file"):
            server.check()
    with open_yard("", pki_dir=str(tmp_path)) as yard:
        assert not yard.hosts.list()


def test_containers_of_a_batch_are_deleted_on_own_servers_only(tmp_path: Path) -> None:
    calls: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.do_DELETE(200, b'[{"Id": "one"}, {"Id": "two"}]')

        def do_DELETE(self, status: int = 204, body: bytes = b"") -> None:
            calls.append(f"{self.command} {self.path}")
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def address_string(self) -> str:
            return "client"

    path = tmp_path / "docker.sock"
    with socketserver.UnixStreamServer(str(path), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.Server("other", f"unix://{path}", "").clean()
        assert not calls
        servers.Server("bare", f"unix://{path}", "", is_own=True).clean()
        server.shutdown()
    assert calls == [
        "GET /containers/json?all=1",
        "DELETE /containers/one?force=1&v=1",
        "DELETE /containers/two?force=1&v=1",
    ]


def test_server_without_an_answer_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(servers, "WAIT", 0.1)
    silent = servers.given("other", f"unix://{tmp_path}/none")
    with pytest.raises(RuntimeError, match="other does not answer"), silent:
        pass
    monkeypatch.setattr(servers, "WAIT", 60)
    program = servers.running([sys.executable, "-c", "raise SystemExit(3)"], tmp_path / "log")
    with pytest.raises(RuntimeError, match="code 3"), program as process:
        servers.answering("other", tmp_path / "none", "identity", process)
    with servers.given("far", "tcp://127.0.0.1:1") as (server,):
        assert server.docker_host == "tcp://127.0.0.1:1"
        server.check()


def test_stopped_run_goes_on_with_the_next_test(tmp_path: Path, store: RecordStore) -> None:
    """A run whose time is up ends after a test, and a process can end in the middle of a test."""
    suite = write_suite(
        tmp_path,
        "import os\ndef test_1(): ...\ndef test_2(): os._exit(3)\ndef test_3(): ...\n",
    )
    files = suite.collect()
    server = servers.Server("bare", "tcp://127.0.0.1:1", "identity")
    store.begin("bare", ServerResults("identity"))
    suite.run(FILE, files[FILE], server.docker_host, store.path("bare"), time.time() - 1)
    assert harness.pending_tests(store, "bare", files[FILE]) == files[FILE][1:]
    harness.measure(suite, store, [server], files, time.time() + 100)
    recorded = store.load("bare")
    assert recorded
    assert [r["outcome"] for r in recorded.tests.values()] == ["passed", "failed", "passed"]
    assert "ended in this test" in recorded.tests[f"{PREFIX}test_2"]["reason"]


class CountingSuite(Suite):
    """A suite whose tests pass, and that counts them."""

    def run(self, file: str, tests: Any, docker_host: str, record: Path, deadline: float) -> bool:
        with record.open("a") as output:
            for test in tests:
                with self.source.joinpath("count").open("a") as count:
                    count.write(f"{test}\n")
                output.write(json.dumps({"test": test, **outcome("passed")}) + "\n")
        return True


@pytest.mark.parametrize(
    ("identity", "fresh", "deadline", "expected"),
    [
        ("identity", False, 100, ["b"]),
        ("other", False, 100, ["a", "b"]),
        ("identity", True, 100, ["a", "b"]),
        ("identity", False, -1, []),
    ],
)
def test_only_tests_without_a_valid_outcome_run(
    tmp_path: Path,
    store: RecordStore,
    identity: str,
    fresh: bool,
    deadline: float,
    expected: list[str],
) -> None:
    store.begin("bare", ServerResults("identity", tests={"a": outcome("failed")}))
    suite = CountingSuite(Path("python"), tmp_path)
    server = servers.Server("bare", "tcp://127.0.0.1:1", identity)
    files = {FILE: ["a", "b"]}
    harness.measure(suite, store, [server], files, time.time() + deadline, fresh=fresh)
    count = tmp_path / "count"
    assert (count.read_text().split() if count.exists() else []) == expected


def test_fresh_discards_only_outcomes_of_selected_files(store: RecordStore, tmp_path: Path) -> None:
    store.begin("bare", ServerResults("identity", tests={"a": outcome("failed"), "x": {}}))
    server = servers.Server("bare", "tcp://127.0.0.1:1", "identity")
    suite = CountingSuite(Path("python"), tmp_path)
    harness.measure(suite, store, [server], {FILE: ["a"]}, time.time() + 100, fresh=True)
    recorded = store.load("bare")
    assert recorded
    assert recorded.tests == {"x": {"commit": ""}, "a": outcome("passed")}


def test_failed_tests_run_again(store: RecordStore, tmp_path: Path) -> None:
    earlier = {"a": outcome("failed"), "b": outcome("passed"), "x": outcome("failed")}
    store.begin("bare", ServerResults("identity", tests=earlier))
    server = servers.Server("bare", "tcp://127.0.0.1:1", "identity")
    suite = CountingSuite(Path("python"), tmp_path)
    harness.measure(suite, store, [server], {FILE: ["a", "b"]}, time.time() + 100, failed=True)
    assert (tmp_path / "count").read_text().split() == ["a"]
    recorded = store.load("bare")
    assert recorded
    assert recorded.having("failed") == {"x"}


def test_kept_outcomes_have_the_commit_of_their_run(store: RecordStore) -> None:
    store.begin("bare", ServerResults("old", commit="one"))
    store.append("bare", "a", "passed", "")
    for commit in ("two", "three"):
        store.begin("bare", ServerResults("new", commit=commit), keep=True)
        store.append("bare", commit, "passed", "")
    recorded = store.load("bare")
    assert recorded
    commits = {test: result.get("commit") for test, result in recorded.tests.items()}
    assert commits == {"a": "one", "two": "two", "three": None}
    assert recorded.commits() == ["one", "three", "two"]
    assert store.begin("bare", ServerResults("newest")).tests == {}


def test_each_test_runs_once_on_one_of_several_servers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, store: RecordStore
) -> None:
    monkeypatch.setattr(harness, "BATCH", 2)
    suite = CountingSuite(Path("python"), tmp_path)
    group = [servers.Server("bare", f"tcp://127.0.0.1:{port}", "identity") for port in (1, 2)]
    files = {FILE: ["a", "b", "c", "d", "e"], "b_test.py": ["f"]}
    harness.measure(suite, store, group, files, time.time() + 100)
    assert sorted((tmp_path / "count").read_text().split()) == ["a", "b", "c", "d", "e", "f"]


def test_last_outcome_counts_and_a_broken_line_does_not(store: RecordStore) -> None:
    assert store.load("bare") is None
    store.begin("bare", results(test_a="failed"))
    store.append("bare", f"{PREFIX}test_a", "passed", "")
    with store.path("bare").open("a") as output:
        output.write('{"test": "hal')
    recorded = store.load("bare")
    assert recorded
    assert recorded.having("passed") == {f"{PREFIX}test_a"}
    assert list(store.all()) == ["bare"]


def test_parts_contain_each_file_once_and_are_balanced() -> None:
    files = {f"{size}_test.py": ["test"] * size for size in (40, 20, 15, 6, 5, 3)}
    parts = [part_of(files, number, 3) for number in (1, 2, 3)]
    assert sorted(file for part in parts for file in part) == sorted(files)
    assert [sum(len(files[file]) for file in part) for part in parts] == [40, 25, 24]
    assert part_of(files, 8, 8) == []


def test_selection_is_parts_and_files_in_their_order() -> None:
    files = {"a_test.py": ["1", "2"], "b_test.py": ["3"]}
    assert harness.select(files, []) == ["a_test.py", "b_test.py"]
    assert harness.select(files, ["2/2"]) == ["b_test.py"]
    assert harness.select(files, ["2/2", "a_test.py", "2/2"]) == ["b_test.py", "a_test.py"]
    for word in ("3/2", "0/2", "c_test.py"):
        with pytest.raises(SystemExit, match=word):
            harness.select(files, [word])


def test_server_without_docker_host_is_an_error() -> None:
    with pytest.raises(SystemExit, match="podman=unix"), harness.serve("podman", 5000):
        pass


def test_comparison_excludes_documented_differences() -> None:
    bare = results(a="passed", b="passed", c="passed", d="failed", e="passed", f="skipped")
    endpoint = results(a="passed", b="failed", c="failed", d="passed")
    comparison = compare(bare, endpoint, {f"{PREFIX}c": "reason", f"{PREFIX}d": "reason"})
    assert (comparison.expected, comparison.documented, comparison.passed) == (3, 1, 1)
    assert comparison.failed == [f"{PREFIX}b"]
    assert comparison.missing == [f"{PREFIX}e"]
    head, *details = summary("endpoint", comparison)
    assert "1 of the 3 tests that bare passes (33.3%; 1 documented" in head
    assert details == [f"  failed: {PREFIX}b", "  not run: 1 tests"]


def test_document_and_table_contain_every_server() -> None:
    measured = {"bare": results(a="passed", b="failed"), "endpoint": results(a="passed")}
    written = document(measured, {f"{PREFIX}b": "reason"}, {"commit": "abc"})
    assert written["commit"] == "abc"
    assert written["comparisons"]["endpoint"]["ratio"] == 1.0
    assert written["servers"]["bare"]["tests"][f"{PREFIX}b"]["outcome"] == "failed"
    assert written["servers"]["endpoint"]["facts"] == {"Version": "26.1"}
    assert table(measured, 3)[2:] == [
        "| bare     | 26.1   | 1      | 1      | 0       | 1       | commit  |",
        "| endpoint | 26.1   | 1      | 0      | 0       | 2       | commit  |",
    ]


def test_report_misses_the_bound_only_if_all_expected_tests_were_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, store: RecordStore
) -> None:
    (tmp_path / "differences.yml").write_text("[]")
    monkeypatch.setattr(harness, "DIFFERENCES", tmp_path / "differences.yml")
    monkeypatch.setattr(harness, "RESULT", tmp_path / "result.json")
    files = {FILE: [f"{PREFIX}a", f"{PREFIX}b"]}
    store.begin("bare", results(a="passed", b="passed"))
    assert harness.report(store, files) == 0
    store.begin("endpoint", results(a="failed"))
    assert harness.report(store, files) == 0
    store.append("endpoint", f"{PREFIX}b", "passed", "")
    assert harness.report(store, files) == 1
    store.append("endpoint", f"{PREFIX}a", "passed", "")
    assert harness.report(store, files) == 0
    assert json.loads((tmp_path / "result.json").read_text())["tests"] == 2


def test_differences_name_tests_or_classes_with_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "differences.yml"
    tests = ["x::OneTest::test_a", "x::OneTest::test_b", "y::TwoTest::test_a", "y::test_c"]
    path.write_text(
        "- {test: OneTest, reason: no binds}\n- {test: 'TwoTest::test_a', reason: no clock}\n"
    )
    assert load_differences(path, tests) == {
        "x::OneTest::test_a": "no binds",
        "x::OneTest::test_b": "no binds",
        "y::TwoTest::test_a": "no clock",
    }
    for entry in ("{test: OneTest, reason: ''}", "{test: ThreeTest, reason: none}"):
        path.write_text(f"- {entry}\n")
        with pytest.raises(ValueError, match="no reason"):
            load_differences(path, tests)
    path.write_text("- {test: OneTest, reason: many}\n")
    many = [f"x::OneTest::test_{number}" for number in range(MOST_DIFFERENCES + 1)]
    with pytest.raises(ValueError, match="at most"):
        load_differences(path, many)


def test_image_contains_all_programs_a_user_and_directories() -> None:
    archive = images.root_archive(b"program", ("sh", "top"), "alpine")
    assert archive == images.root_archive(b"program", ("sh", "top"), "alpine")
    with tarfile.open(fileobj=io.BytesIO(archive)) as content:
        assert {"var/opt", "tmp", "bin/sh", "bin/top"} <= set(content.getnames())
        assert content.getmember("bin/top").linkname == "busybox"
        passwd = content.extractfile("etc/passwd")
        assert passwd
        assert b"postgres" in passwd.read()


def test_pushed_blobs_have_the_digests_of_the_manifest() -> None:
    stored: dict[str, bytes] = {}

    class Registry(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.answer(202)

        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            stored[self.path] = body
            self.answer(201)

        def answer(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Location", f"http://{self.headers['Host']}/upload?state=1")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_request(self, *arguments: object) -> None:
            """Write no log."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Registry) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        images.push(f"http://127.0.0.1:{server.server_port}", images.IMAGES[0], b"archive")
        server.shutdown()
    manifest = json.loads(stored.pop("/v2/library/alpine/manifests/3.10"))
    blobs = {hashlib.sha256(body).hexdigest(): body for body in stored.values()}
    digests = [manifest["config"]["digest"], manifest["layers"][0]["digest"]]
    assert sorted(digests) == sorted(f"sha256:{digest}" for digest in blobs)
    assert all(f"digest=sha256:{digest}" in "".join(stored) for digest in blobs)


def test_differences_of_this_checkout_have_reasons() -> None:
    passing = "x::TestNetworks::test_create_with_links"
    tests = [
        "x::VolumeBindTest::test_a",
        "x::ContainerCollectionTest::test_run_with_volume",
        "x::CreateContainerTest::test_create_container_with_volumes_from",
        "x::CreateContainerTest::test_create_with_links",
        passing,
        "x::SecretAPITest::test_create_secret",
        "x::PortTest::test_port",
    ]
    assert set(tests) - load_differences(harness.DIFFERENCES, tests).keys() == {passing}
