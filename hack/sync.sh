#!/usr/bin/env bash
# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# sync.sh DIRECTORY [COMMAND...]: make DIRECTORY (an absolute path) hold the checkout's source files and no others.
# Keeps .venv and build there. COMMAND, when given, runs each step that writes (as another user, say).
# shellcheck source=hack/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

target=$1
writer=("${@:2}")

# Tracked files and new ones that are not ignored; everything but our own output where there is no git.
sources() {
  local git=(git -c "safe.directory=*" -c core.fsmonitor=false -C "$root")
  if [[ $("${git[@]}" rev-parse --show-toplevel 2>/dev/null) == "$root" ]]; then
    "${git[@]}" ls-files --cached --others --exclude-standard --deduplicate -z | existing
  else
    listing "$root"
  fi | LC_ALL=C sort --zero-terminated
}

# git also names files that were deleted and not yet staged.
existing() {
  local name
  while IFS= read -r -d '' name; do
    [[ ! -e $root/$name && ! -L $root/$name ]] || printf '%s\0' "$name"
  done
}

listing() {
  find "$1" -mindepth 1 \( -path "$1/.git" -o -path "$1/.venv" -o -path "$1/build" -o -path "$1/collections" \
    -o -name __pycache__ \) -prune -o \( -type f -o -type l \) -printf '%P\0'
}

main() {
  local list
  list=$(mktemp)
  # shellcheck disable=SC2064 # the name is known now
  trap "rm -f '$list'" EXIT
  cd / # a place that every user may be in
  "${writer[@]}" mkdir -p "$target"
  sources >"$list"
  listing "$target" | LC_ALL=C sort --zero-terminated | LC_ALL=C comm --zero-terminated -13 "$list" - |
    "${writer[@]}" env --chdir="$target" xargs --null --no-run-if-empty rm -f --
  tar --create --directory="$root" --null --no-recursion --verbatim-files-from --files-from="$list" |
    "${writer[@]}" tar --extract --preserve-permissions --no-same-owner --directory="$target"
  "${writer[@]}" find "$target" -mindepth 1 \( -path "$target/.venv" -o -path "$target/build" \) -prune \
    -o -type d -empty -exec rmdir -p --ignore-fail-on-non-empty {} +
}

main
