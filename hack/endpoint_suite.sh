#!/usr/bin/env bash
# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# endpoint_suite.sh [ARGUMENT...]: run docker-py's integration tests. ARGUMENTS go to tests/endpoint_suite.
# endpoint_suite.sh --prepare: only make the environment of docker-py, for the tests that `make test` runs.
# docker-py needs old libraries, so it has an environment of its own; its tests are only in its source distribution.
# shellcheck source=hack/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

work=$root/build/endpoint-suite
pins=$root/requirements/endpoint-suite.txt
stamp=$work/stamp

# Two runs can begin at once: a subshell, whose end releases the lock.
make_environment() (
  mkdir -p "$work"
  exec {lock}>"$work/lock"
  flock "$lock"
  want=$(sha256sum <"$pins")
  [[ ! -f $stamp || $(<"$stamp") != "$want" ]] || return 0
  say "making the environment of docker-py"
  "${PYTHON:-/usr/bin/python3}" -m venv --clear "$work/venv"
  "$work/venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes --requirement "$pins"
  # The pin with its hashes: the lines up to the first that does not end with a backslash.
  sed -n '/^docker==/,/[^\\]$/p' "$pins" >"$work/docker.txt"
  (cd "$work" && rm -rf docker-* && "$work/venv/bin/pip" download --quiet --disable-pip-version-check \
    --no-deps --no-binary :all: --require-hashes --requirement docker.txt && tar -xzf docker-*.tar.gz)
  printf '%s\n' "$want" >"$stamp"
)

unpack_servers() {
  local package
  [[ ! -x $work/root/bin/busybox || ! -x $work/root/usr/bin/docker-registry ]] || return 0
  say "fetching Debian's registry and busybox"
  rm -rf "$work/debs" "$work/root"
  mkdir "$work/debs"
  (cd "$work/debs" && apt-get download --quiet docker-registry busybox-static) ||
    die "apt cannot fetch docker-registry and busybox-static: run apt-get update as root"
  for package in "$work/debs"/*.deb; do dpkg-deb --extract "$package" "$work/root"; done
  # Debian 13 has programs in usr/bin only.
  [[ -e $work/root/bin ]] || ln -s usr/bin "$work/root/bin"
}

make_environment
[[ ${1:-} != --prepare ]] || exit 0
unpack_servers
cd "$root"
exec .venv/bin/python -m tests.endpoint_suite "$@"
