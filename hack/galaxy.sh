#!/usr/bin/env bash
# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Builds the collection and has Galaxy's own importer look at it, in an environment of its own: what it needs does not go
# with the other tools. It needs PyPI once.
# shellcheck source=hack/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

work=$root/build/galaxy
venv=$work/venv
wanted="galaxy-importer==0.4.44 setuptools ansible-core<2.20"

rm -rf "$work/source" "$work/out"
mkdir -p "$work/out" "$work/home"
"$root/hack/sync.sh" "$work/source"
if [[ ! -f $venv/stamp || $(<"$venv/stamp") != "$wanted" ]]; then
  "${PYTHON:-/usr/bin/python3}" -m venv --clear "$venv"
  read -ra words <<<"$wanted"
  "$venv/bin/pip" install --quiet --disable-pip-version-check "${words[@]}"
  printf '%s\n' "$wanted" >"$venv/stamp"
fi
export PATH=$venv/bin:$root/.venv/bin:$PATH HOME=$work/home
# What is installed below goes into that home, not over the copy that other checks read.
unset ANSIBLE_COLLECTIONS_PATH
# There is no public address of this repository yet, and nothing is imported without one.
printf 'repository: https://example.org/stockyard\n' >>"$work/source/galaxy.yml"
ansible-galaxy collection build "$work/source" --output-path "$work/out" >/dev/null
# Its linter looks for the playbooks that the examples import.
ansible-galaxy collection install "$work"/out/*.tar.gz --offline --force >/dev/null
cat >"$work/importer.cfg" <<'CFG'
[galaxy-importer]
RUN_ANSIBLE_TEST = False
OFFLINE_ANSIBLE_LINT = True
# Release notes come with a release.
CHECK_CHANGELOG = False
CFG
cd "$work/out"
GALAXY_IMPORTER_CONFIG=$work/importer.cfg python -m galaxy_importer.main ./*.tar.gz 2>&1 | tee "$work/importer.log"
if grep -qE '^(ERROR|WARNING)' "$work/importer.log"; then die "Galaxy would not take it as it is"; fi
say "the importer found nothing"
