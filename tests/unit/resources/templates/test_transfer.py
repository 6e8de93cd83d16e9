# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Transfers of templates between two simulated hypervisors."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from stockyard import (
    FleetSpec,
    HypervisorError,
    ImageError,
    ImageSpec,
    InvalidInput,
    NotFound,
    OperationRefused,
    StockyardError,
    TemplateSpec,
    Unsupported,
    Yard,
)
from stockyard.artifacts import registry as client
from stockyard.artifacts.documents import encode_config, encode_manifest
from stockyard.hypervisor.template_files import NoTemplateFiles
from stockyard.model import codec
from stockyard.model.artifact import Artifact
from stockyard.pki import signatures
from stockyard.providers.memory import template_files
from stockyard.providers.memory.provider import PLATFORM
from tests.helpers.clocks import FakeClock
from tests.helpers.faulty_provider import FaultyProvider
from tests.helpers.oci_registry import OciRegistry, serving
from tests.helpers.samples import template_record
from tests.helpers.simulated_machines import disk_of

BASE = TemplateSpec("base")


@pytest.fixture
def target(tmp_path: Path, clock: FakeClock) -> Iterator[Yard]:
    """A yard of the same tenant on another hypervisor."""
    uri = f"memory://{tmp_path}/target"
    with Yard(uri, owner="second", clock=clock, pki_dir=str(tmp_path / "second-pki")) as opened:
        yield opened


@pytest.fixture
def shared(yard: Yard, target: Yard, tmp_path: Path) -> Yard:
    """The second yard, with the key material of the first one."""
    authority = yard.context.pki("default").authority(yard.context.today())
    folder = tmp_path / "second-pki" / "second" / "default"
    folder.mkdir(parents=True, mode=0o700)
    (folder / "ca.pem").write_text(authority.pem())
    (folder / "ca-key.pem").write_text(authority.key_pem())
    (folder / "ca-key.pem").chmod(0o600)
    return target


@pytest.fixture(autouse=True)
def _content(yard: Yard) -> None:
    """Content on the disk of the template."""
    pages = (hashlib.sha256(bytes([number])).digest() * 128 for number in range(8))
    (disk_of(yard.templates.get("base")) / "data").write_bytes(b"".join(pages))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[OciRegistry]:
    monkeypatch.setattr(client, "PAUSE", 0.0)
    with serving(OciRegistry()) as opened:
        yield opened


@pytest.fixture
def place(server: OciRegistry) -> str:
    return f"{server.address}/team/base:1"


@pytest.fixture
def saved(yard: Yard, tmp_path: Path) -> Path:
    path = tmp_path / "base.tar"
    yard.templates.save("base", path)
    return path


def content(folder: Path) -> dict[str, bytes]:
    """Return all files of a hypervisor, without locks."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "locks" not in path.parts
    }


def test_pulled_template_is_forked_at_once(yard: Yard, shared: Yard, place: str) -> None:
    pushed = yard.templates.push("base", place)
    assert [str(action) for action in pushed.plan.actions] == [
        f"push template base: {place} does not exist"
    ]
    artifact = pushed.object
    assert artifact.digest.startswith("sha256:")
    assert artifact.total_bytes == artifact.sent_bytes > 0
    (template,) = shared.templates.pull(place).objects
    source = yard.templates.get("base")
    assert (template.name, template.generation, template.owner) == (
        "base",
        source.generation,
        "second",
    )
    assert template.uuid != source.uuid
    assert template.usable
    assert template.platform == source.platform
    (host,) = shared.fleets.apply(FleetSpec("ci", "base", count=1)).objects
    assert (host.mode, host.mode_reason) == ("instant", "")
    # The declaration of the template is met: nothing is built.
    assert not shared.templates.apply(BASE).changed


def test_second_transfer_changes_nothing(yard: Yard, shared: Yard, place: str) -> None:
    first = yard.templates.push("base", place).object
    second = yard.templates.push("base", place)
    assert not second.changed
    assert second.object == replace(first, sent_bytes=0)
    assert shared.templates.pull(place).changed
    assert not shared.templates.pull(place).changed
    assert len(shared.templates.list()) == 1


def test_check_mode_changes_nothing(
    yard: Yard, shared: Yard, place: str, server: OciRegistry, tmp_path: Path
) -> None:
    assert yard.templates.push("base", place, check=True).changed
    assert not server.blobs
    assert not server.manifests
    assert yard.templates.save("base", tmp_path / "x.tar", check=True).changed
    assert not (tmp_path / "x.tar").exists()
    yard.templates.push("base", place)
    assert shared.templates.pull(place, check=True).changed
    assert shared.templates.list() == ()


def test_saved_template_is_loaded_under_another_name(saved: Path, shared: Yard) -> None:
    (template,) = shared.templates.load(saved, name="copy").objects
    assert template.name == "copy"
    (host,) = shared.fleets.apply(FleetSpec("ci", "copy", count=1)).objects
    assert host.mode == "instant"


def test_saved_file_is_not_overwritten_by_mistake(yard: Yard, saved: Path, tmp_path: Path) -> None:
    assert not yard.templates.save("base", saved).changed
    notes = tmp_path / "notes.txt"
    notes.write_text("important")
    with pytest.raises(OperationRefused, match="no template that this tenant saved"):
        yard.templates.save("base", notes)
    assert notes.read_text() == "important"


def test_received_image_is_not_mistaken_for_another_build_of_the_same_packages(
    yard: Yard, shared: Yard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Images are named by their packages. Each build of one has another file system.
    monkeypatch.setattr(template_files, "DISK", "image-disk")
    source = yard.templates.get("base")
    yard.templates.save("base", tmp_path / "first.tar")
    (disk_of(source) / "data").write_bytes(b"another file system")
    yard.templates.save("base", tmp_path / "second.tar")
    images = [
        shared.templates.load(tmp_path / file, name=name).object.image
        for name, file in (("a", "first.tar"), ("b", "second.tar"), ("c", "first.tar"))
    ]
    assert images[0] == images[2]
    assert len({source.image, *images}) == 3


def test_earlier_generation_that_is_pulled_is_current_again(
    yard: Yard, shared: Yard, place: str, clock: FakeClock
) -> None:
    yard.templates.push("base", place)
    (first,) = shared.templates.pull(place).objects
    clock.sleep(1)
    changed = TemplateSpec("base", image=ImageSpec(packages=("busybox",)))
    assert shared.templates.apply(changed).object.generation != first.generation
    clock.sleep(1)
    result = shared.templates.pull(place)
    assert [action.verb for action in result.plan.actions] == ["promote"]
    assert shared.templates.get("base").generation == first.generation


def test_interrupted_push_continues_where_it_stopped(
    yard: Yard, place: str, server: OciRegistry
) -> None:
    server.refused = ("PUT", 2, 400)
    with pytest.raises(HypervisorError, match="registry did not"):
        yard.templates.push("base", place)
    assert len(server.blobs) == 1
    assert not server.manifests
    server.refused = ("", 0, 0)
    result = yard.templates.push("base", place).object
    assert 0 < result.sent_bytes < result.total_bytes


def test_equal_content_of_another_generation_is_not_sent_again(
    yard: Yard, server: OciRegistry
) -> None:
    place = f"{server.address}/team/base"
    first = yard.templates.push("base", place).object
    assert first.location == f"{place}:{first.generation}"
    child = TemplateSpec("child", parent="base", image=ImageSpec(packages=("git",)))
    yard.templates.apply(child)
    lines: list[str] = []
    object.__setattr__(yard.context, "progress", lines.append)
    derived = yard.templates.push("child", place).object
    assert derived.location == f"{place}:{derived.generation}"
    assert any("which are not sent again" in line for line in lines)
    elsewhere = f"{server.address}/team/child"
    puts = server.requests["PUT"]
    yard.templates.push("child", elsewhere, base=f"{place}:{first.generation}")
    assert ("team/child", next(d for r, d in server.blobs if r == "team/base")) in server.blobs
    assert server.requests["PUT"] - puts < 6
    with pytest.raises(InvalidInput, match="another registry"):
        yard.templates.push("child", place, base="registry.example.com/team/base:1")


def test_generation_in_use_is_not_deleted_if_the_tag_changes_during_a_pull(
    yard: Yard, shared: Yard, place: str, server: OciRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def push(*packages: str) -> bytes:
        yard.templates.apply(TemplateSpec("base", image=ImageSpec(packages=packages)))
        yard.templates.push("base", place)
        return server.manifests["team/base", "1"]

    first = push()
    received = shared.templates.pull(place).object
    second = push("busybox")
    # The registry names the second generation, and then the first one, which is used here.
    answers = iter((second, first))
    monkeypatch.setattr(client.RegistryArtifact, "manifest", lambda _self: next(answers))
    assert not shared.templates.pull(place, name="base").changed
    assert shared.templates.get("base").uuid == received.uuid


def refused(target: Yard, act: Callable[[], Any], folder: Path, kind: type[StockyardError]) -> str:
    """Check that a transfer is refused, in check mode too, and stores nothing; return the error."""
    before = content(folder) if folder.exists() else {}
    with pytest.raises(kind) as caught:
        act()
    assert (content(folder) if folder.exists() else {}) == before
    assert target.templates.list() == ()
    return str(caught.value)


def test_template_of_another_signer_is_refused_unless_its_key_is_trusted(
    yard: Yard, target: Yard, place: str, tmp_path: Path
) -> None:
    key = yard.templates.push("base", place).object.key
    folder = tmp_path / "target.d"
    text = refused(target, lambda: target.templates.pull(place), folder, InvalidInput)
    assert "no authority, and no key is trusted" in text
    target.context.pki("default").authority(target.context.today())
    for check in (True, False):
        text = refused(
            target,
            partial(target.templates.pull, place, check=check),
            folder,
            ImageError,
        )
        assert "signer of the artifact is not trusted" in text
        assert key in text
    assert target.templates.pull(place, trusted_keys=(key,)).changed
    with pytest.raises(InvalidInput, match="public key"):
        target.templates.pull(place, trusted_keys=("ab",))


def test_template_of_another_processor_is_refused_before_anything_is_stored(
    saved: Path, shared: Yard, tmp_path: Path
) -> None:
    folder = tmp_path / "target.d"
    folder.mkdir()
    another = replace(PLATFORM, cpu_model="another")
    (folder / "platform.json").write_text(json.dumps(codec.to_dict(another)))
    for check in (True, False):
        text = refused(
            shared,
            partial(shared.templates.load, saved, check=check),
            folder,
            Unsupported,
        )
        assert "CPU model simulated was frozen, and the hypervisor has another" in text


def test_template_of_another_processor_boots_from_its_disk_if_that_is_allowed(
    saved: Path, shared: Yard, tmp_path: Path, clock: FakeClock
) -> None:
    folder = tmp_path / "target.d"
    folder.mkdir()
    another = replace(PLATFORM, cpu_model="another")
    (folder / "platform.json").write_text(json.dumps(codec.to_dict(another)))
    lines: list[str] = []
    object.__setattr__(shared.context, "progress", lines.append)
    (received,) = shared.templates.load(saved, allow_boot=True).objects
    assert any("hosts boot from its disk" in line and "CPU model" in line for line in lines)
    assert not shared.templates.load(saved, allow_boot=True).changed
    (host,) = shared.fleets.apply(FleetSpec("ci", "base", count=1)).objects
    assert host.mode == "linked"
    assert "CPU model simulated" in host.mode_reason
    clock.sleep(1)
    (frozen_again,) = shared.templates.apply(BASE).objects
    assert (frozen_again.generation != received.generation, frozen_again.drift) == (True, ())


def test_template_of_another_machine_type_is_refused_in_any_case(
    saved: Path, shared: Yard, tmp_path: Path
) -> None:
    folder = tmp_path / "target.d"
    folder.mkdir()
    (folder / "platform.json").write_text(json.dumps(codec.to_dict(replace(PLATFORM, machine=""))))
    load = partial(shared.templates.load, saved, allow_boot=True)
    assert "cannot boot the disk" in refused(shared, load, folder, Unsupported)


def rewritten(path: Path, change: Callable[[dict[str, bytes]], None]) -> None:
    """Change the members of a saved template."""
    with tarfile.open(path) as tar:
        members = {entry.name: tar.extractfile(entry).read() for entry in tar}  # type: ignore[union-attr]
    change(members)
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))


def blob(data: bytes) -> str:
    return f"blobs/sha256/{hashlib.sha256(data).hexdigest()}"


def manifest_of(members: dict[str, bytes]) -> tuple[str, dict[str, Any]]:
    index = json.loads(members["index.json"])
    name = f"blobs/{index['manifests'][0]['digest'].replace(':', '/')}"
    return name, json.loads(members[name])


def with_manifest(members: dict[str, bytes], manifest: bytes) -> None:
    """Put another manifest in the place of the present one."""
    del members[manifest_of(members)[0]]
    members[blob(manifest)] = manifest
    index = json.loads(members["index.json"])
    digest = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
    index["manifests"][0].update(digest=digest, size=len(manifest))
    members["index.json"] = json.dumps(index).encode()


def without_signature(members: dict[str, bytes]) -> None:
    manifest = manifest_of(members)[1]
    manifest["annotations"] = {}
    with_manifest(members, json.dumps(manifest).encode())


def with_other_config(members: dict[str, bytes]) -> None:
    """Change the configuration and all digests that lead to it, but not the signature."""
    manifest = manifest_of(members)[1]
    config = members.pop(f"blobs/{manifest['config']['digest'].replace(':', '/')}")
    changed = config.replace(b'"ssh_user":"stockyard"', b'"ssh_user":"attacker1"')
    assert changed != config
    members[blob(changed)] = changed
    manifest["config"].update(
        digest=f"sha256:{hashlib.sha256(changed).hexdigest()}", size=len(changed)
    )
    with_manifest(members, json.dumps(manifest).encode())


def with_changed_pack(members: dict[str, bytes]) -> None:
    name = f"blobs/{_pack(members).replace(':', '/')}"
    data = members[name]
    members[name] = data[:-5] + bytes(5)


def without_pack(members: dict[str, bytes]) -> None:
    del members[f"blobs/{_pack(members).replace(':', '/')}"]


def with_short_pack(members: dict[str, bytes]) -> None:
    name = f"blobs/{_pack(members).replace(':', '/')}"
    members[name] = members[name][:-1]


def without_config(members: dict[str, bytes]) -> None:
    del members[f"blobs/{manifest_of(members)[1]['config']['digest'].replace(':', '/')}"]


def with_other_artifact(members: dict[str, bytes]) -> None:
    manifest = manifest_of(members)[1]
    manifest["config"]["mediaType"] = "application/vnd.oci.image.config.v1+json"
    with_manifest(members, json.dumps(manifest).encode())


def _pack(members: dict[str, bytes]) -> str:
    layers = manifest_of(members)[1]["layers"]
    return str(next(item["digest"] for item in layers if "pages" in item["mediaType"]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_signature, "not signed"),
        (with_other_config, "signature of the artifact is not valid"),
        (with_changed_pack, "changed or truncated"),
        (with_short_pack, "changed or truncated"),
        (without_pack, "is missing"),
        (without_config, "is missing"),
        (with_other_artifact, "not a template"),
    ],
)
def test_changed_artifact_is_refused_and_nothing_is_stored(
    saved: Path,
    shared: Yard,
    tmp_path: Path,
    change: Callable[[dict[str, bytes]], None],
    message: str,
) -> None:
    rewritten(saved, change)
    folder = tmp_path / "target.d"
    text = refused(shared, lambda: shared.templates.load(saved), folder, ImageError)
    assert message in text


def signed_again(yard: Yard, path: Path, change: Callable[[Artifact], Artifact]) -> None:
    """Change the configuration of a saved template, and sign it as its tenant."""

    def act(members: dict[str, bytes]) -> None:
        manifest = manifest_of(members)[1]
        name = f"blobs/{manifest['config']['digest'].replace(':', '/')}"
        artifact = change(codec.from_dict(Artifact, json.loads(members[name])))
        authority = yard.context.pki("default").existing_authority()
        assert authority
        config = encode_config(artifact)
        members[blob(config)] = config
        signature = signatures.sign(authority, config)
        key = signatures.public_key(authority)
        with_manifest(members, encode_manifest(artifact, config, signature, key))

    rewritten(path, act)


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        # A pack that is said to be larger or smaller than it is.
        (
            lambda artifact: replace(
                artifact, packs=(replace(artifact.packs[0], pages=1), *artifact.packs[1:])
            ),
            ImageError,
            "index names pages that do not exist",
        ),
        (
            lambda artifact: replace(
                artifact, packs=(replace(artifact.packs[0], pages=2048), *artifact.packs[1:])
            ),
            ImageError,
            "larger or smaller than the declared",
        ),
        (
            lambda artifact: replace(
                artifact, files=(replace(artifact.files[0], size=4096), *artifact.files[1:])
            ),
            ImageError,
            "outside of the file",
        ),
        (
            lambda artifact: replace(
                artifact, files=(replace(artifact.files[0], name="other"), *artifact.files[1:])
            ),
            ImageError,
            "damaged",
        ),
        (lambda artifact: replace(artifact, provider="libvirt"), Unsupported, "kind libvirt"),
        (
            lambda artifact: replace(artifact, record=replace(artifact.record, platform=None)),
            Unsupported,
            "platform of the template is not known",
        ),
    ],
)
def test_artifact_that_contradicts_itself_is_refused_although_it_is_signed(
    yard: Yard,
    saved: Path,
    shared: Yard,
    tmp_path: Path,
    change: Callable[[Artifact], Artifact],
    kind: type[StockyardError],
    message: str,
) -> None:
    signed_again(yard, saved, change)
    folder = tmp_path / "target.d"
    assert message in refused(shared, lambda: shared.templates.load(saved), folder, kind)


def test_failure_at_the_end_of_a_pull_leaves_no_template(
    yard: Yard, shared: Yard, place: str, server: OciRegistry, tmp_path: Path
) -> None:
    yard.templates.push("base", place)
    server.refused = ("GET", server.requests["GET"] + 5, 400)
    refused(shared, lambda: shared.templates.pull(place), tmp_path / "target.d", StockyardError)
    server.refused = ("", 0, 0)
    assert shared.templates.pull(place).object.usable


def test_absent_objects_are_named(yard: Yard, place: str, tmp_path: Path) -> None:
    yard.templates.push("base", f"{place}0")
    with pytest.raises(NotFound, match="artifact does not exist"):
        yard.templates.pull(place)
    with pytest.raises(NotFound, match="no usable generation"):
        yard.templates.push("nosuch", place)
    with pytest.raises(NotFound, match="no usable generation ffff"):
        yard.templates.save("base", tmp_path / "x.tar", generation="ffff")
    with pytest.raises(InvalidInput, match="no tag"):
        yard.templates.pull(place.removesuffix(":1"))


def test_template_without_a_recorded_platform_is_not_pushed(yard: Yard, place: str) -> None:
    (template,) = yard.context.provider.observe(yard.context.owner).templates
    yard.context.provider.claim(template.record, platform=None)
    for check in (True, False):
        with pytest.raises(Unsupported, match="platform of the template is not known"):
            yard.templates.push("base", place, check=check)


def test_hypervisor_whose_templates_cannot_leave_it_says_why(
    yard: Yard, hypervisor: FaultyProvider, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    yard.templates.push("base", place)
    refusal = NoTemplateFiles("its memory is not exported")
    monkeypatch.setattr(type(hypervisor.inner), "template_files", refusal)
    for check in (True, False):
        with pytest.raises(Unsupported, match=r"cannot be transferred.*not exported"):
            yard.templates.push("base", f"{place}2", check=check)
    with pytest.raises(Unsupported, match="cannot be transferred"):
        refusal.receive(template_record(), {}, yard.context.deadline(1))
