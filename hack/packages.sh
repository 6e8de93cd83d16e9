#!/usr/bin/env bash
# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Installs the Debian packages of bindep.txt that are missing. Touches nothing, and needs no network, when none is.
# shellcheck source=hack/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# All that bindep.txt has for dpkg; what has the profile "ci" only in CI.
wanted() {
  local leave=' \[ci '
  [[ -z ${CI:-} ]] || leave='^$'
  sed -n "/$leave/d; s/^\([a-z0-9][a-z0-9.+-]*\) .*platform:dpkg.*/\1/p" "$root/bindep.txt"
}

installed() { [[ $(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null) == installed ]]; }

main() {
  local name missing=() as_root=()
  if ! command -v dpkg-query >/dev/null; then
    say "not a Debian system: install what these are called here: $(wanted | tr '\n' ' ')"
    return
  fi
  for name in $(wanted); do
    installed "$name" || missing+=("$name")
  done
  ((${#missing[@]})) || return 0
  if ((EUID != 0)); then
    command -v sudo >/dev/null || die "as root, run: apt-get install --no-install-recommends ${missing[*]}"
    as_root=(sudo)
  fi
  say "installing Debian packages: ${missing[*]}"
  "${as_root[@]}" apt-get update --quiet
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install --quiet --yes --no-install-recommends "${missing[@]}"
}

main
