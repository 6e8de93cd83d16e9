# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""GitLab's runner with the custom executor, built once and kept under ``build``.

Go's proxy serves the module of the runner, but not all modules that it needs. The sources of
tests/gitlab_runner replace the parts that need the others: see the README there.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path

from tests.helpers import docker_clients
from tests.vcsim import build

OVERLAY = Path(__file__).parents[1] / "gitlab_runner" / "overlay"
MODULE = "gitlab.com/gitlab-org/gitlab-runner"
VERSION = "v1.11.1-0.20260903214710-fc1f1862bd91"
# Modules that the proxy does not serve.
MISSING = (
    *(f"{MODULE}/helpers/runner_wrapper/api", "gitlab.com/ajwalker/phrasestream"),
    *("gitlab.com/gitlab-org/labkit/v2", "gitlab.com/gitlab-org/moa"),
    "gitlab.com/gitlab-org/step-runner",
)
# Packages of the overlay instead of packages of these modules.
PACKAGES = {
    "gitlab.com/gitlab-org/labkit/v2/fields": f"{MODULE}/parts/fields",
    "gitlab.com/gitlab-org/step-runner/pkg/api/client": f"{MODULE}/parts/client",
    "gitlab.com/gitlab-org/step-runner/schema/v1": f"{MODULE}/parts/schema",
}
# Parts that are left out, and the directory of a package that the overlay replaces.
REMOVED = (
    *("commands/wrapper.go", "commands/helpers/proxy_exec.go", "steps"),
    "commands/steps/steps.go",
)
CHANGED = (
    *("commands/boot_verify.go", "commands/multi.go", "common/build.go", "common/spec/spec.go"),
    *("common/support.go", "executors/docker/internal/exec/exec.go", "log/field_mapping.go"),
    "network/gitlab.go",
)
# The lines of a writer for usage records.
USAGE = re.compile(
    r'^func \(mr \*RunCommand\) createSnowplowBillingWriter.*?^}\n|^[^\n]*(?:/snowplow"|/oidc"|'
    r'mr\.createSnowplowBillingWriter|labkit/v2/fields")[^\n]*\n',
    re.DOTALL | re.MULTILINE,
)
SETTINGS = {"GOTOOLCHAIN": "local", "GOFLAGS": "-buildvcs=false", "CGO_ENABLED": "0"}


def fetch() -> Path:
    """Return the program gitlab-runner, built if it does not exist, which takes minutes."""
    parts = [path.read_bytes() for path in (Path(__file__), *sorted(OVERLAY.rglob("*.go")))]
    pins = hashlib.sha256(b"\0".join(parts)).hexdigest()
    return docker_clients.cached((MODULE, pins), _build) / "gitlab-runner"


def _build(temporary: Path, place: Path) -> None:
    source = temporary / "source"
    go = build.go()
    facts = json.loads(_run(go, "mod", "download", "-json", f"{MODULE}@{VERSION}"))
    # Go's cache is read-only.
    _run("cp", "-r", "--no-preserve=mode", facts["Dir"], str(source))
    for name in REMOVED:
        path = source / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for name in CHANGED:
        _change(source / name)
    shutil.copytree(OVERLAY, source, dirs_exist_ok=True)
    edits = [f"-{verb}={name}" for verb in ("droprequire", "dropreplace") for name in MISSING]
    _run(go, "mod", "edit", *edits, cwd=source)
    target = str(place / "gitlab-runner")
    _run(go, "build", "-p", "2", "-trimpath", "-ldflags=-s -w", "-o", target, ".", cwd=source)


def _change(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if path.name == "multi.go":
        text = USAGE.sub("", text)
    for old, new in PACKAGES.items():
        text = text.replace(f'"{old}"', f'"{new}"')
    path.write_text(text, encoding="utf-8")


def _run(*command: str, cwd: Path | None = None) -> str:
    return docker_clients.run(*command, cwd=cwd, settings=SETTINGS)
