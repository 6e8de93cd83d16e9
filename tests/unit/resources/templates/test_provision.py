# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The user's playbook: what may be declared, what counts for the digest, and how it is run."""

from __future__ import annotations

import json
import os
import stat
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stockyard import GuestError, ImageSpec, InvalidInput, MissingDependency, TemplateSpec, Yard
from stockyard.clock import Deadline
from stockyard.errors import Conflict, DeadlineExceeded
from stockyard.guest.agent.main import AGENT
from stockyard.guest.client import Guest
from stockyard.guest.recipe import declared_digest
from stockyard.model.network import USER_NETWORK, GuestNetwork
from stockyard.model.provision import Provision
from stockyard.model.template import Hardware, TemplateRecord
from stockyard.resources.templates import playbook as playing
from stockyard.resources.templates import provision
from stockyard.resources.templates.build_template import resolved
from stockyard.resources.templates.playbook import SshTarget, play, workshop
from tests.helpers.samples import HOST_KEY, HOSTILE

DIGEST = "a" * 64
RECORD = TemplateRecord(
    "me",
    "default",
    "base",
    "7f6ee7d0-4a3f-4e2a-9d0b-3f2f5c1c2a11",
    DIGEST,
    DIGEST,
    DIGEST,
    Hardware(),
    "running",
    "stockyard",
    "booting",
    1.0,
    "52:54:00:00:00:01",
)
# A stand-in for ansible-playbook: it records its call, and ends with the given code.
FAKE = """#!{python}
import json, os, sys, time
given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
with open({note!r}, "w") as handle:
    json.dump({{
        "argv": sys.argv[1:], "cwd": os.getcwd(),
        "inventory": json.load(open(given["--inventory"])),
        "variables": json.load(open(given["--extra-vars"][1:])),
        "playbook": open(sys.argv[5]).read(),
        "env": {{k: v for k, v in os.environ.items() if k.startswith("ANSIBLE_")}},
        "known_hosts": open(os.path.dirname(given["--inventory"]) + "/known_hosts").read(),
    }}, handle)
print("fatal: [base]: it is broken")
time.sleep({sleep})
sys.exit({code})
"""


@pytest.fixture
def ansible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Callable[[], dict[str, Any]]]:
    """Puts an ansible-playbook first in the path that ends as it is told; gives what reads how it
    was called.
    """

    def made(code: int = 0, sleep: float = 0) -> Callable[[], dict[str, Any]]:
        tools, note = tmp_path / "tools", tmp_path / "note.json"
        tools.mkdir(exist_ok=True)
        program = tools / "ansible-playbook"
        program.write_text(
            FAKE.format(python=sys.executable, note=str(note), sleep=sleep, code=code)
        )
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
        return lambda: dict(json.loads(note.read_text())) if note.exists() else {}

    return made


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """A playbook with a role and a template in its directory."""
    folder = tmp_path / "book"
    (folder / "roles/web/tasks").mkdir(parents=True)
    (folder / "site.yml").write_text("- hosts: template\n  roles: [web]\n")
    (folder / "roles/web/tasks/main.yml").write_text("[]\n")
    return folder / "site.yml"


def declared(playbook: Provision) -> TemplateSpec:
    return TemplateSpec("base", provision=playbook)


def digest(playbook: Provision) -> str:
    return declared_digest(resolved(declared(playbook)))


@pytest.mark.parametrize(
    "bad",
    [
        {},
        {"playbook": "a", "roles": ("b",)},
        {"roles": ("",)},
        {"roles": ("a",), "files": ("b",)},
        {"playbook": "a\nb"},
        {"playbook": "a\0b"},
        {"playbook": "a", "files": ("",)},
        {"playbook": "a", "variables": {"x": object()}},
        {"playbook": "a", "variables": {"x": float("nan")}},
        {"playbook": "a", "variables": {1: 2}},
    ],
)
def test_invalid_provision_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="provision"):
        Provision(**bad)


@pytest.mark.parametrize(
    "name", [*(n for n in HOSTILE if n != "A"), "ansible_host", "ansible_connection"]
)
def test_no_variable_leads_the_play_elsewhere(name: str) -> None:
    with pytest.raises(InvalidInput):
        Provision("site.yml", variables={name: "local"})


def test_a_finished_machine_is_not_provisioned() -> None:
    with pytest.raises(InvalidInput, match="finished machine"):
        TemplateSpec("base", image=ImageSpec(source="vm"), provision=Provision("site.yml"))


def test_templates_from_before_keep_their_names() -> None:
    spec = TemplateSpec("base")
    assert declared_digest(spec) == declared_digest(resolved(spec))
    assert declared_digest(spec) != declared_digest(declared(Provision("site.yml", digest=DIGEST)))


def test_the_digest_is_of_the_content_and_not_of_its_place(book: Path, tmp_path: Path) -> None:
    first = digest(Provision(str(book)))
    book.parent.rename(tmp_path / "elsewhere")
    moved = tmp_path / "elsewhere" / "site.yml"
    moved.touch()
    assert digest(Provision(str(moved))) == first
    assert digest(Provision(str(moved), variables={"a": 1})) != first


@pytest.mark.parametrize("change", ["text", "added", "gone", "renamed", "mode", "link"])
def test_all_files_of_the_playbook_directory_count_in_the_digest(book: Path, change: str) -> None:
    tasks = book.parent / "roles/web/tasks/main.yml"
    first = digest(Provision(str(book)))
    outside = book.parent.parent / "outside.yml"
    outside.write_text("other\n")
    changes: dict[str, Callable[[], object]] = {
        "text": lambda: tasks.write_text("[ ]\n"),
        "added": lambda: (tasks.parent / "more.yml").write_text(""),
        "gone": tasks.unlink,
        "renamed": lambda: tasks.rename(tasks.with_name("main.yaml")),
        "mode": lambda: tasks.chmod(0o755),
        "link": lambda: (tasks.parent / "more.yml").symlink_to(outside),
    }
    changes[change]()
    assert digest(Provision(str(book))) != first
    if change == "link":
        second = digest(Provision(str(book)))
        outside.write_text("changed behind the link\n")
        assert digest(Provision(str(book))) != second


def test_hidden_and_generated_files_do_not_count_in_the_digest(book: Path) -> None:
    first = digest(Provision(str(book)))
    for name in (
        ".git/HEAD",
        "roles/web/.cache",
        "site.retry",
        "roles/web/__pycache__/x.py",
        "x.pyc",
    ):
        path = book.parent / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    (book.parent / "loop").symlink_to(book.parent)
    os.mkfifo(book.parent / "pipe")
    assert digest(Provision(str(book))) == first


def test_only_listed_files_count_in_the_digest(book: Path) -> None:
    playbook = Provision(str(book), files=("roles/web",))
    first = digest(playbook)
    (book.parent / "notes").write_text("x")
    assert digest(playbook) == first
    (book.parent / "roles/web/tasks/main.yml").write_text("[1]")
    second = digest(playbook)
    assert second != first
    book.write_text("[]")
    assert digest(playbook) != second


def test_roles_count_whole(book: Path) -> None:
    role = str(book.parent / "roles/web")
    first = digest(Provision(roles=(role,)))
    (book.parent / "notes").write_text("x")
    assert digest(Provision(roles=(role,))) == first
    assert digest(Provision(roles=(role, role))) != first
    (Path(role) / "defaults").mkdir()
    (Path(role) / "defaults/main.yml").write_text("a: 1\n")
    assert digest(Provision(roles=(role,))) != first


def test_missing_playbook_is_reported_before_the_build(book: Path, bare: Yard) -> None:
    for bad, message in (
        (Provision(str(book) + "x"), "provision: the playbook does not exist"),
        (Provision(str(book.parent)), "provision: the playbook does not exist"),
        (Provision(roles=(str(book),)), "provision: the role does not exist"),
        (Provision(str(book), files=("gone",)), "cannot be read"),
    ):
        with pytest.raises(InvalidInput, match=message):
            bare.templates.apply(declared(bad))
        with pytest.raises(InvalidInput, match=message):
            bare.templates.apply(declared(bad), check=True)
    assert bare.templates.list() == ()


def test_home_directory_as_playbook_directory_is_refused(
    book: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provision, "MOST_FILES", 1)
    with pytest.raises(InvalidInput, match="more than 1 files"):
        digest(Provision(str(book)))


def test_plan_announces_the_playbook(book: Path, bare: Yard, ansible: Callable[..., Any]) -> None:
    called = ansible()
    spec = declared(Provision(str(book)))
    dry = bare.templates.apply(spec, check=True)
    reasons = ["build template base: it does not exist; playbook site.yml will run in it"]
    assert [str(a) for a in dry.plan.actions] == reasons
    assert dry.plan.diff()["after"]["template base"]["provision"] == "playbook site.yml"
    assert called() == {}
    first_result = bare.templates.apply(spec)
    assert [str(a) for a in first_result.plan.actions] == reasons
    assert first_result.objects[0].provision == "playbook site.yml"
    assert not bare.templates.apply(spec).changed
    book.write_text("[]")
    second_result = bare.templates.apply(spec, check=True)
    assert [str(a) for a in second_result.plan.actions] == [
        "build template base: its declaration changed; playbook site.yml will run in it"
    ]
    third_result = bare.templates.apply(TemplateSpec("base"), check=True)
    assert third_result.plan.diff()["before"]["template base"]["provision"] == "playbook site.yml"
    assert third_result.plan.diff()["after"]["template base"]["provision"] == ""


def test_memory_provider_only_checks_the_playbook(
    book: Path, bare: Yard, ansible: Callable[..., Any]
) -> None:
    called = ansible()
    bare.templates.apply(declared(Provision(str(book), variables={"a": [1]})))
    assert called()["argv"][-1] == "--syntax-check"
    assert called()["variables"] == {"a": [1]}


def test_failed_playbook_freezes_nothing(
    book: Path, bare: Yard, ansible: Callable[..., Any]
) -> None:
    ansible(code=2)
    with pytest.raises(GuestError, match=r"playbook site.yml failed \(code 2\).*it is broken"):
        bare.templates.apply(declared(Provision(str(book))))
    assert bare.templates.list() == ()
    ansible(code=0)
    assert bare.templates.apply(declared(Provision(str(book)))).objects[0].usable


def run(playbook: Provision, way: SshTarget, seconds: float = 60, *, dry: bool = False) -> None:
    with workshop() as work:
        work.public_key()
        assert stat.S_IMODE(work.key.stat().st_mode) == 0o600
        assert stat.S_IMODE(work.folder.stat().st_mode) == 0o700
        play(playbook, way, work, RECORD, Deadline(seconds), dry=dry)


WAY = SshTarget("stockyard", "127.0.0.1", 40000, HOST_KEY)


def test_only_the_machine_with_this_key_is_reached(
    book: Path, ansible: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    called = ansible()
    monkeypatch.setenv("ANSIBLE_HOST_KEY_CHECKING", "False")
    monkeypatch.setenv("ANSIBLE_INVENTORY", "/etc/hosts")
    run(Provision(str(book)), WAY)
    call = called()
    assert call["cwd"] == str(book.parent)
    assert call["argv"][-1] == str(book)
    assert list(call["inventory"]) == ["template"]
    (reached,) = call["inventory"]["template"]["hosts"].values()
    assert (reached["ansible_host"], reached["ansible_port"], reached["ansible_user"]) == (
        "127.0.0.1",
        40000,
        "stockyard",
    )
    for option in (
        "-F /dev/null",
        "-oStrictHostKeyChecking=yes",
        "-oGlobalKnownHostsFile=/dev/null",
    ):
        assert option in reached["ansible_ssh_common_args"]
    assert call["known_hosts"] == f"[127.0.0.1]:40000 {HOST_KEY}\n"
    assert call["env"]["ANSIBLE_HOST_KEY_CHECKING"] == "True"
    assert call["env"]["ANSIBLE_HOST_PATTERN_MISMATCH"] == "error"
    assert "ANSIBLE_INVENTORY" not in call["env"]


def test_roles_get_a_playbook(book: Path, ansible: Callable[..., Any]) -> None:
    called = ansible()
    role = str(book.parent / "roles/web")
    run(Provision(roles=(role,)), WAY)
    assert json.loads(called()["playbook"]) == [
        {"hosts": "template", "become": True, "roles": [role]}
    ]


def test_playbook_is_ended_at_the_deadline(book: Path, ansible: Callable[..., Any]) -> None:
    ansible(sleep=60)
    begin = time.monotonic()
    with pytest.raises(DeadlineExceeded, match="did not end"):
        run(Provision(str(book)), WAY, seconds=1.5)
    assert time.monotonic() - begin < 20


def test_missing_ansible_is_reported(book: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playing, "PROGRAM", "ansible-playbook-that-is-not-there")
    with pytest.raises(MissingDependency, match="ansible-core"):
        run(Provision(str(book)), WAY)


def test_missing_ansible_is_reported_before_the_build(
    book: Path, bare: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(playing, "PROGRAM", "ansible-playbook-that-is-not-there")
    for check in (True, False):
        with pytest.raises(MissingDependency, match="ansible-core"):
            bare.templates.apply(declared(Provision(str(book))), check=check)
    assert bare.templates.list() == ()


class FakeChannel:
    """A channel that answers as the agent does."""

    def __init__(self, fails: str = "") -> None:
        self.asked: list[str] = []
        self.fails = fails

    def request(self, message: dict[str, Any], deadline: Deadline) -> dict[str, Any]:
        self.asked.append(message["op"])
        if message["op"] == self.fails:
            raise GuestError("no")
        return {"ok": True, "ssh_host_key": "ssh-ed25519 " + "A" * 68}

    def close(self) -> None:
        return


def client(channel: FakeChannel) -> Guest:
    return Guest(channel, RECORD.title, Deadline(60), version=AGENT)


class Reachable:
    """A hypervisor whose templates are reached."""

    def __init__(self, guest: FakeChannel, inner: Any) -> None:
        self.guest = guest
        self.capabilities = replace(inner.capabilities, endpoints=True)

    def template_network(self, record: TemplateRecord) -> GuestNetwork:
        return USER_NETWORK

    @contextmanager
    def reach(self, record: TemplateRecord, deadline: Deadline) -> Any:
        self.guest.asked.append("connected")
        try:
            yield "127.0.0.1", 40000
        finally:
            self.guest.asked.append("cut")


@pytest.mark.parametrize("code", [0, 2])
def test_ssh_is_enabled_and_disabled_around_the_playbook(
    bare: Yard, book: Path, ansible: Callable[..., Any], code: int
) -> None:
    called, guest = ansible(code), FakeChannel()
    ctx = replace(bare.context, provider=Reachable(guest, bare.context.provider))  # type: ignore[arg-type]
    playbook = resolved(declared(Provision(str(book)))).provision
    assert playbook
    if code:
        with pytest.raises(GuestError, match="the template was not frozen"):
            provision.run(ctx, RECORD, playbook, client(guest), Deadline(60))
        assert guest.asked == ["enable-ssh", "connected", "cut"]
    else:
        provision.run(ctx, RECORD, playbook, client(guest), Deadline(60))
        assert guest.asked == ["enable-ssh", "connected", "disable-ssh", "cut"]
    assert called()["known_hosts"].startswith("[127.0.0.1]:40000 ssh-ed25519 ")


def test_playbook_changed_in_between_is_not_run(
    bare: Yard, book: Path, ansible: Callable[..., Any]
) -> None:
    called, guest = ansible(), FakeChannel()
    playbook = resolved(declared(Provision(str(book)))).provision
    assert playbook
    book.write_text("- hosts: all\n")
    with pytest.raises(Conflict, match="changed during the run"):
        provision.run(bare.context, RECORD, playbook, client(guest), Deadline(60))
    assert (guest.asked, called()) == ([], {})
