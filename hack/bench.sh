#!/usr/bin/env bash
# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# bench.sh [ARGUMENT...]: measure, then draw what was found. ARGUMENTS go to bench/run.py.
# The plots' library is in an environment of its own: nothing else needs it.
# shellcheck source=hack/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

plots=$root/build/bench/venv
stamp=$plots/stockyard.stamp

have_plots() {
  local want
  want=$(sha256sum <"$root/requirements/bench.txt")
  [[ ! -f $stamp || $(<"$stamp") != "$want" ]] || return 0
  say "making the environment of the plots"
  "${PYTHON:-/usr/bin/python3}" -m venv --clear "$plots"
  "$plots/bin/pip" install --quiet --disable-pip-version-check --require-hashes \
    --requirement "$root/requirements/bench.txt"
  printf '%s\n' "$want" >"$stamp"
}

main() {
  local measured=0
  cd "$root"
  .venv/bin/python -m bench.run "$@" || measured=$?
  have_plots
  "$plots/bin/python" -m bench.plots
  return "$measured"
}

main "$@"
