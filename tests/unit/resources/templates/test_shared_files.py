# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Templates that two owners on one hypervisor share through a directory."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from stockyard import (
    Declaration,
    FleetSpec,
    FleetTerm,
    ImageSpec,
    InvalidInput,
    TemplateSpec,
    TemplateTerm,
    Yard,
)
from stockyard.model import codec
from stockyard.model.template_info import TemplateInfo
from stockyard.pki import signatures
from stockyard.providers.memory.provider import PLATFORM
from stockyard.resources.templates import shared_files
from tests.helpers.clocks import FakeClock

UNTRUSTED = "0" * 64


@dataclass
class Owner:
    """An owner with a yard, and the lines of its progress."""

    yard: Yard
    spec: TemplateSpec
    lines: list[str] = field(default_factory=list)

    @property
    def key(self) -> str:
        pki = self.yard.context.pki("default")
        return signatures.public_key(pki.authority(self.yard.context.today()))

    def trusting(self, *signers: Owner) -> TemplateSpec:
        return replace(self.spec, trusted_keys=tuple(signer.key for signer in signers))

    def verbs(self, spec: TemplateSpec, *, check: bool = False) -> list[str]:
        return [action.verb for action in self.yard.templates.apply(spec, check=check).plan.actions]

    @property
    def template(self) -> TemplateInfo:
        return self.yard.templates.get("base")

    def has_reported(self, text: str) -> bool:
        return any(text in line for line in self.lines)


@pytest.fixture
def share_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "shared"
    folder.mkdir()
    return folder


@pytest.fixture
def owners(tmp_path: Path, share_dir: Path, clock: FakeClock) -> Iterator[tuple[Owner, Owner]]:
    """Two owners on one hypervisor, each with an authority."""

    def opened(name: str) -> Owner:
        lines: list[str] = []
        yard = Yard(
            f"memory://{tmp_path}/hypervisor",
            owner=name,
            clock=clock,
            pki_dir=str(tmp_path / f"pki-{name}"),
            progress=lines.append,
        )
        return Owner(yard, TemplateSpec("base", share_dir=str(share_dir)), lines)

    first, second = opened("first"), opened("second")
    with first.yard, second.yard:
        yield first, second


@pytest.fixture
def saved(owners: tuple[Owner, Owner], share_dir: Path, clock: FakeClock) -> Path:
    """The file of the template that the first owner built."""
    assert owners[0].verbs(owners[0].spec) == ["build"]
    (path,) = share_dir.iterdir()
    clock.sleep(60)
    return path


def built(owners: tuple[Owner, Owner]) -> bool:
    """Return whether the second owner built its template, after the first one did."""
    return owners[1].template.created > owners[0].template.created


def test_template_of_a_trusted_owner_is_loaded_instead_of_built(
    owners: tuple[Owner, Owner], saved: Path
) -> None:
    first, second = owners
    assert first.key in saved.name
    assert saved.stat().st_mode & 0o777 == 0o644
    spec = second.trusting(first)
    (action,) = second.yard.templates.apply(spec, check=True).plan.actions
    assert (action.verb, action.after) == ("load", {"generation": first.template.generation})
    assert f"{saved} has it, signed by {first.key[:12]}" in action.reason
    assert second.yard.templates.list() == ()
    assert second.verbs(spec) == ["load"]
    assert not built(owners)
    assert second.template.generation == first.template.generation
    assert second.verbs(spec) == []
    assert list(saved.parent.iterdir()) == [saved]
    # The copy is independent.
    first.yard.templates.delete("base")
    saved.unlink()
    fleet = second.yard.fleets.apply(FleetSpec("web", "base", count=1))
    assert [host.mode for host in fleet.objects] == ["instant"]


def test_yard_with_a_derived_template_loads_both(
    owners: tuple[Owner, Owner], clock: FakeClock
) -> None:
    def declaration(owner: Owner, *trusted: Owner) -> Declaration:
        base = owner.trusting(*trusted)
        child = replace(base, name="jdk", parent="base", image=ImageSpec(packages=("git",)))
        fleet = FleetTerm(FleetSpec("web", "jdk", count=1))
        return Declaration(templates=(TemplateTerm(child), TemplateTerm(base)), fleets=(fleet,))

    first, second = owners
    first.yard.apply(declaration(first))
    clock.sleep(60)
    actions = second.yard.apply(declaration(second, first), check=True).plan.actions
    assert [action.verb for action in actions if action.kind == "template"][:1] == ["load"]
    actions = second.yard.apply(declaration(second, first)).plan.actions
    assert [(action.verb, action.name) for action in actions] == [
        ("load", "base"),
        ("load", "jdk"),
        ("create", "web-1"),
    ]
    assert not second.yard.apply(declaration(second, first), check=True).plan.actions


def test_template_of_another_signer_is_not_used(owners: tuple[Owner, Owner], saved: Path) -> None:
    second = owners[1]
    content = saved.read_bytes()
    # The name of the file is not believed: it is signed by the first owner.
    saved.with_name(saved.name.replace(owners[0].key, UNTRUSTED)).write_bytes(content)
    assert second.verbs(replace(second.spec, trusted_keys=(UNTRUSTED,))) == ["build"]
    assert built(owners)
    assert second.has_reported("the signer of the artifact is not trusted")
    # The second owner saves a file of another name.
    assert saved.read_bytes() == content
    assert any(second.key in path.name for path in saved.parent.iterdir())


def test_file_of_another_declaration_is_not_used(owners: tuple[Owner, Owner], saved: Path) -> None:
    first, second = owners
    spec = replace(second.trusting(first), image=ImageSpec(packages=("git",)))
    assert second.verbs(spec, check=True) == ["build"]
    second.verbs(replace(spec, trusted_keys=()))
    (own,) = (path for path in saved.parent.iterdir() if second.key in path.name)
    own.with_name(own.name.replace(second.key, first.key)).write_bytes(saved.read_bytes())
    own.unlink()
    second.yard.templates.delete("base")
    assert second.verbs(spec) == ["build"]
    assert second.has_reported("has the template of another declaration")


def test_changed_file_is_not_used_and_nothing_of_it_remains(
    owners: tuple[Owner, Owner], saved: Path
) -> None:
    first, second = owners
    data = bytearray(saved.read_bytes())
    # In the first pack, which a plan does not read.
    data[600] ^= 1
    saved.write_bytes(data)
    assert second.verbs(second.trusting(first), check=True) == ["load"]
    assert second.verbs(second.trusting(first)) == ["build"]
    assert built(owners)
    assert second.has_reported(f"{saved} is not used")
    assert len(second.yard.templates.list()) == 1


@pytest.mark.parametrize("kind", ["truncated", "pipe", "link to nothing", "directory"])
def test_anything_but_a_template_is_reported_and_not_used(
    owners: tuple[Owner, Owner], saved: Path, kind: str
) -> None:
    first, second = owners
    data = saved.read_bytes()
    saved.unlink()
    if kind == "truncated":
        saved.write_bytes(data[:1000])
    elif kind == "pipe":
        os.mkfifo(saved)
    elif kind == "directory":
        saved.mkdir()
    else:
        saved.symlink_to(saved.parent / "nothing")
    assert second.verbs(second.trusting(first)) == ["build"]
    assert second.has_reported(f"{saved} is not used")


def test_directory_that_cannot_be_read_is_reported_and_not_used(
    owners: tuple[Owner, Owner], saved: Path
) -> None:
    first, second = owners
    spec = replace(second.trusting(first), share_dir=str(saved))
    assert second.verbs(spec, check=True) == ["build"]
    assert second.has_reported("Not a directory")
    assert second.verbs(spec) == ["build"]
    assert second.has_reported("not shared: ")


@pytest.mark.parametrize("change", ["deleted", "replaced"])
def test_template_is_built_if_its_file_changes_after_the_plan(
    owners: tuple[Owner, Owner], saved: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = owners
    load = shared_files.load

    def change_and_load(*arguments: Any) -> bool:
        saved.unlink()
        if change == "replaced":
            saved.mkdir()
        return load(*arguments)

    monkeypatch.setattr(shared_files, "load", change_and_load)
    spec = second.trusting(first)
    assert second.verbs(spec, check=True) == ["load"]
    assert second.verbs(spec) == ["build"]
    assert built(owners)
    assert second.has_reported(f"{saved} is not used")


def test_template_of_another_platform_is_not_used(
    tmp_path: Path, owners: tuple[Owner, Owner], saved: Path
) -> None:
    first, second = owners
    another = replace(PLATFORM, cpu_model="another", cpu_features=())
    folder = tmp_path / "hypervisor.d"
    (folder / "platform.json").write_text(json.dumps(codec.to_dict(another)))
    assert second.verbs(second.trusting(first)) == ["build"]
    assert second.has_reported("cannot resume the memory")
    assert not second.template.drift


def test_old_file_is_not_used_if_the_mirror_or_the_age_decides(
    owners: tuple[Owner, Owner], saved: Path
) -> None:
    first, second = owners
    trusting = second.trusting(first)
    assert second.verbs(replace(trusting, upgrade=True), check=True) == ["build"]
    assert second.verbs(replace(trusting, max_age=60.0), check=True) == ["build"]
    assert second.verbs(replace(trusting, max_age=61.0), check=True) == ["load"]


def test_template_is_complete_if_it_cannot_be_shared(
    owners: tuple[Owner, Owner], share_dir: Path
) -> None:
    first = owners[0]
    share_dir.rmdir()
    assert first.verbs(first.spec) == ["build"]
    assert first.has_reported("not shared: ")
    assert first.verbs(first.spec) == []


def test_own_file_is_loaded_after_the_template_was_deleted(
    owners: tuple[Owner, Owner], saved: Path
) -> None:
    first = owners[0]
    first.yard.templates.delete("base")
    assert first.verbs(first.spec) == ["load"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trusted_keys": (UNTRUSTED,)}, "trusted_keys requires share_dir"),
        ({"share_dir": "shared"}, "is a relative path"),
        ({"share_dir": "/srv", "trusted_keys": ("key",)}, "is not a public key"),
        ({"share_dir": "/srv", "from_host": "web-1"}, "from_host excludes share_dir"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        TemplateSpec("base", **options)
