# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The image recipe: the same declaration gives the same digest, and every change of it another."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jinja2
import pytest

from stockyard import (
    BuildOptions,
    Hardware,
    ImageSpec,
    InvalidInput,
    Repository,
    TemplateSpec,
)
from stockyard.guest import bundle, small_runtime
from stockyard.guest.recipe import LINK, SSHD_SOURCES, declared_digest, recipe, template_digest
from stockyard.guest.rendering import render
from stockyard.guest.security import records, rootless
from stockyard.model import codec
from stockyard.model.recipe import Recipe
from stockyard.model.security import DEFAULTS, PROFILES, SecuritySpec
from tests.helpers.samples import template_record

BASE = TemplateSpec("base")
CE = ImageSpec(docker_packages="docker-ce")
KEY = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmDMEZ\n-----END PGP PUBLIC KEY BLOCK-----\n"
REPOSITORY = Repository("https://packages.example.org/docker", KEY, "trixie", ("stable",))


def test_digest_covers_the_declaration_only() -> None:
    assert declared_digest(BASE) == declared_digest(TemplateSpec("other", tenant="x"))
    assert declared_digest(BASE) == declared_digest(
        TemplateSpec("base", build=BuildOptions(proxy="http://proxy"))
    )
    assert declared_digest(BASE) == declared_digest(
        TemplateSpec("base", image=ImageSpec(packages=("docker.io",)))
    )


@pytest.mark.parametrize(
    "changed",
    [
        TemplateSpec("base", image=ImageSpec(suite="bookworm")),
        TemplateSpec("base", image=ImageSpec(packages=("vim",))),
        TemplateSpec("base", image=ImageSpec(ssh_user="me")),
        TemplateSpec("base", image=ImageSpec(files={"/etc/x": ""})),
        TemplateSpec("base", image=ImageSpec(disk_gib=9)),
        TemplateSpec("base", hardware=Hardware(vcpus=2)),
        TemplateSpec("base", hardware=Hardware(max_vcpus=8)),
        TemplateSpec("base", hardware=Hardware(memory_mib=2048)),
        TemplateSpec("base", hardware=Hardware(spare_ports=5)),
        TemplateSpec("base", max_memory_mib=2048),
        TemplateSpec("base", image=ImageSpec(commands=("true",))),
        TemplateSpec("base", hardware=Hardware(accelerator="tcg")),
        TemplateSpec("base", docker="stopped"),
        TemplateSpec("base", image=ImageSpec(runtime="crun")),
        TemplateSpec("base", image=CE, build=BuildOptions(repositories=(REPOSITORY,))),
    ],
)
def test_every_change_is_another_digest(changed: TemplateSpec) -> None:
    assert declared_digest(changed) != declared_digest(BASE)


DAEMON = "/etc/docker/daemon.json"


def test_other_runtime_is_installed_and_the_default_of_dockerd() -> None:
    ordinary, with_crun = recipe(ImageSpec()), recipe(ImageSpec(runtime="crun"))
    assert set(with_crun.packages) - set(ordinary.packages) == {"crun"}
    changed = {path for path, file in with_crun.files.items() if file != ordinary.files.get(path)}
    assert changed == {DAEMON, *small_runtime.files()}
    keys = json.loads(with_crun.files[DAEMON].text)
    assert keys.pop("default-runtime") == "crun"
    assert keys.pop("runtimes") == {"crun": {"path": small_runtime.RUNTIME}}
    assert keys == json.loads(ordinary.files[DAEMON].text)


@pytest.mark.parametrize("profile", ["shared", "hostile"])
def test_other_runtime_applies_the_limit_of_processes(profile: str) -> None:
    limit = DEFAULTS[profile].limits.container_pids
    files = recipe(ImageSpec(runtime="crun"), profile=SecuritySpec(profile)).files
    assert files[small_runtime.RUNTIME] == small_runtime.files(limit)[small_runtime.RUNTIME]


@pytest.mark.parametrize(
    "security",
    [
        SecuritySpec(no_new_privileges=True),
        SecuritySpec(user_namespaces="rootless"),
    ],
)
def test_other_runtime_keeps_the_settings_of_a_profile(security: SecuritySpec) -> None:
    path = DAEMON if security.no_new_privileges else "/etc/docker/rootless.json"
    ordinary = json.loads(recipe(ImageSpec(), profile=security).files[path].text)
    keys = json.loads(recipe(ImageSpec(runtime="crun"), profile=security).files[path].text)
    assert keys["default-runtime"] == "crun"
    assert keys | ordinary == keys


def test_runtimes_of_the_declaration_stay() -> None:
    own = {"default-runtime": "kata", "runtimes": {"kata": {"path": "/usr/bin/kata"}}}
    spec = ImageSpec(runtime="crun", files={DAEMON: json.dumps(own)})
    keys = json.loads(recipe(spec).files[DAEMON].text)
    assert keys["default-runtime"] == "kata"
    assert set(keys["runtimes"]) == {"kata", "crun"}


@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
def test_packages_of_docker_replace_those_of_debian(suite: str) -> None:
    of_debian = recipe(ImageSpec(suite=suite))
    of_docker = recipe(ImageSpec(suite=suite, docker_packages="docker-ce"))
    added = set(of_docker.packages) - set(of_debian.packages)
    assert added == {"containerd.io", "docker-ce", "docker-ce-cli"}
    removed = set(of_debian.packages) - set(of_docker.packages)
    assert removed == {"docker.io"} | ({"docker-cli"} if suite == "trixie" else set())
    assert of_docker.files == of_debian.files


def test_audit_records_changes_of_the_programs_of_each_package() -> None:
    for kind, folder in (("debian", "/usr/sbin"), ("docker-ce", "/usr/bin")):
        spec = ImageSpec(docker_packages=kind)
        rules = recipe(spec, profile=SecuritySpec("hostile")).files[records.PATH].text.splitlines()
        for program in ("dockerd", "runc"):
            assert f"-w {folder}/{program} -p wa -k docker" in rules


def test_rootless_docker_of_docker_has_its_script_and_no_second_rootlesskit() -> None:
    profile = SecuritySpec(user_namespaces="rootless")
    of_docker = recipe(CE, profile=profile)
    assert "docker-ce-rootless-extras" in of_docker.packages
    assert "rootlesskit" not in of_docker.packages
    texts_by_path = {path: file.text for path, file in of_docker.files.items()}
    unit = texts_by_path["/etc/systemd/user/docker.service"]
    assert "ExecStart=/usr/bin/dockerd-rootless.sh " in unit
    assert "exec /usr/bin/dockerd " in texts_by_path[f"{rootless.FOLDER}/dockerd"]


def test_packages_of_docker_need_a_repository() -> None:
    with pytest.raises(InvalidInput, match="requires a repository") as caught:
        TemplateSpec("base", image=CE)
    assert "download.docker.com" in caught.value.remedy
    TemplateSpec("child", parent="base", image=CE)


def test_packages_of_docker_are_in_no_older_digest_and_in_no_source() -> None:
    assert "docker_packages" not in codec.to_dict(ImageSpec())
    with pytest.raises(InvalidInput, match="a finished machine"):
        ImageSpec(source="golden", docker_packages="docker-ce")
    with pytest.raises(InvalidInput, match="docker_packages"):
        ImageSpec(docker_packages="moby")


def test_runtime_of_docker_is_in_no_older_digest() -> None:
    assert "runtime" not in codec.to_dict(ImageSpec())
    assert "runtime" not in codec.to_dict(template_record())


def test_runtime_cannot_be_added_to_a_source() -> None:
    with pytest.raises(InvalidInput, match="a runtime cannot be added"):
        ImageSpec(source="golden", runtime="crun")


def test_generation_covers_the_built_image() -> None:
    assert template_digest(BASE, "a" * 64) != template_digest(BASE, "b" * 64)


def test_packages_do_not_depend_on_their_order() -> None:
    first, second = (
        ImageSpec(packages=names) for names in (("vim", "curl"), ("curl", "vim", "vim"))
    )
    assert recipe(first) == recipe(second)
    assert list(recipe(first).packages) == sorted(set(recipe(first).packages))


def test_files_of_the_user_override_those_of_the_recipe() -> None:
    text = "a'/><qemu:arg value='-x {{ 7 * 7 }} $(id)\n"
    files = recipe(ImageSpec(files={"/etc/odd name": text, "/etc/docker/daemon.json": "{}"})).files
    assert files["/etc/odd name"].text == text
    # dockerd's program for published ports is added.
    assert list(json.loads(files["/etc/docker/daemon.json"].text)) == ["userland-proxy-path"]


def test_login_is_written_to_the_passwd_files() -> None:
    files = recipe(ImageSpec(ssh_user="tester")).files
    for path in (
        "/etc/sysusers.d/stockyard.conf",
        "/etc/sudoers.d/stockyard",
        "/etc/ssh/sshd_config.d/stockyard.conf",
    ):
        assert "tester" in files[path].text
    assert files["/etc/sudoers.d/stockyard"].mode == 0o440


def test_sshd_options_match_the_release() -> None:
    """All clients have one address: Debian 13 must not penalize it, and sshd of Debian 12 refuses
    the word.
    """
    assert recipe(ImageSpec()).files[SSHD_SOURCES].text == "PerSourcePenalties no\n"
    assert SSHD_SOURCES not in recipe(ImageSpec(suite="bookworm")).files
    assert SSHD_SOURCES not in bundle.files("stockyard")


@pytest.mark.parametrize("profile", PROFILES)
def test_sshd_accepts_more_connections_at_once_than_its_default(profile: str) -> None:
    """sshd uses the first value of a word, and reads its files in the order of their names."""
    files = recipe(ImageSpec(), profile=SecuritySpec(profile)).files
    folder = "/etc/ssh/sshd_config.d/"
    lines = [
        line.split()
        for path in sorted(files)
        if path.startswith(folder)
        for line in files[path].text.splitlines()
    ]
    assert next(words for words in lines if words[:1] == ["MaxStartups"]) == ["MaxStartups", "200"]
    socket = files["/etc/systemd/system/ssh.socket.d/stockyard.conf"].text
    assert socket == "[Socket]\nMaxConnections=256\n"


@pytest.mark.parametrize("profile", PROFILES)
def test_users_setting_overrides_the_number_of_inotify_instances(profile: str) -> None:
    key = "fs.inotify.max_user_instances"
    security = SecuritySpec(profile, sysctls={key: "256"})
    values = _kernel_settings(recipe(ImageSpec(), profile=security))
    assert values[key] == "256"
    assert _kernel_settings(recipe(ImageSpec(), profile=SecuritySpec(profile)))[key] == "8192"


def _kernel_settings(image_recipe: Recipe) -> dict[str, str]:
    """Return the kernel settings of an image: the last file's count, see sysctl.d(5)."""
    values = {}
    for path in sorted(image_recipe.files):
        if path.startswith("/etc/sysctl.d/"):
            for line in image_recipe.files[path].text.splitlines():
                key, value = line.removeprefix("-").split(" = ")
                values[key] = value
    return values


def test_nothing_secret_and_no_identity_is_in_a_recipe() -> None:
    image_recipe = recipe(ImageSpec())
    assert not any(
        "PRIVATE KEY" in f.text
        for f in image_recipe.files.values()
        if "/stockyard_agent/" not in f.text
    )
    assert image_recipe.files["/etc/machine-id"].text == ""
    assert not any("ssh_host" in path for path in image_recipe.files)


def test_docker_waits_for_the_identity_only_if_it_is_stopped() -> None:
    gate = "/etc/systemd/system/docker.service.d/stockyard.conf"
    assert gate not in recipe(ImageSpec(), "running").files
    assert "/run/stockyard/open" in recipe(ImageSpec(), "stopped").files[gate].text


def test_links_lead_to_files_of_the_recipe_or_of_the_system() -> None:
    files = recipe(ImageSpec(), "stopped").files
    targets = {f.text for f in files.values() if f.mode == LINK}
    assert "/dev/null" in targets
    assert targets - {"/dev/null"} <= set(files)


def test_the_agent_in_the_image_needs_nothing_of_the_sdk(tmp_path: Path) -> None:
    files = recipe(ImageSpec()).files
    prefix = "/usr/lib/stockyard/"
    for path, file in files.items():
        if path.startswith(prefix) and path.endswith(".py"):
            (tmp_path / path.removeprefix(prefix)).parent.mkdir(exist_ok=True)
            (tmp_path / path.removeprefix(prefix)).write_text(file.text)
    check = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import stockyard_agent.main as m;"
        "assert m.Agent and not [n for n in sys.modules if n == 'stockyard' or "
        "n.startswith('stockyard.')]"
    )
    subprocess.run([sys.executable, "-I", "-c", check], check=True, timeout=60, cwd=tmp_path)


def test_a_text_with_a_hole_is_an_error() -> None:
    assert render("a {{ b }}\n", b="c") == "a c\n"
    with pytest.raises(jinja2.UndefinedError):
        render("a {{ b }}")
