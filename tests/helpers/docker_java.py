# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The libraries of Jenkins' Docker plugin, fetched once by Maven and kept under ``build``."""

from __future__ import annotations

from pathlib import Path

from tests.helpers import docker_clients

FOLDER = Path(__file__).parents[1] / "jenkins" / "docker_cloud"
PROJECT = FOLDER / "pom.xml"
# A Java program that is run from its source.
PROGRAM = FOLDER / "DockerCloud.java"
PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1"


def fetch() -> Path:
    """Return the directory of the libraries, fetched if they are not there."""
    return docker_clients.cached(PROJECT.read_text(encoding="utf-8"), _fetch)


def _fetch(temporary: Path, place: Path) -> None:
    docker_clients.run(
        *("mvn", "--batch-mode", "--file", str(PROJECT)),
        f"-Dmaven.repo.local={temporary / 'repository'}",
        f"-DoutputDirectory={place}",
        f"{PLUGIN}:copy-dependencies",
    )
