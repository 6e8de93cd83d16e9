#!/usr/bin/env bash
# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Resolves pyproject.toml's dependencies for the oldest Python that is supported, with the hashes of all files that an
# installation can use. ARGUMENTS go to uv (--upgrade, say).
# shellcheck source=hack/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

cd "$root"
compile() { .venv/bin/uv pip compile --quiet --python-version 3.11 --no-header --generate-hashes "$@"; }
compile pyproject.toml --group dev --all-extras --output-file requirements/dev.txt "$@"
compile --group bench --output-file requirements/bench.txt "$@"
compile --group endpoint-suite --output-file requirements/endpoint-suite.txt "$@"
grep --only-matching '^uv==[^ ]*' requirements/bootstrap.txt | compile - --output-file requirements/bootstrap.txt "$@"
