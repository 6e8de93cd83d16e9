#!/usr/bin/env bash
# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# endpoint_suite.sh [ARGUMENT...]: run docker-py's integration tests. ARGUMENTS go to tests/endpoint_suite.
# docker-py needs old libraries, so it has an environment of its own; its tests are only in its source distribution.
# shellcheck source=hack/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

work=$root/build/endpoint-suite
pins=$root/requirements/endpoint-suite.txt
stamp=$work/stamp

prepare() {
  local want
  want=$(sha256sum <"$pins")
  [[ ! -f $stamp || $(<"$stamp") != "$want" ]] || return 0
  say "making the environment of docker-py"
  mkdir -p "$work"
  "${PYTHON:-/usr/bin/python3}" -m venv --clear "$work/venv"
  "$work/venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$pins"
  (cd "$work" && rm -rf docker-* debs root && "$work/venv/bin/pip" download --quiet --disable-pip-version-check \
    --no-deps --no-binary :all: "$(grep '^docker==' "$pins")" && tar -xzf docker-*.tar.gz)
  say "fetching Debian's registry and busybox"
  mkdir "$work/debs"
  (cd "$work/debs" && apt-get download --quiet docker-registry busybox-static) ||
    die "apt cannot fetch docker-registry and busybox-static: run apt-get update as root"
  for package in "$work/debs"/*.deb; do dpkg-deb --extract "$package" "$work/root"; done
  printf '%s\n' "$want" >"$stamp"
}

prepare
cd "$root"
exec .venv/bin/python -m tests.endpoint_suite "$@"
