#!/usr/bin/env bash
# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Makes .venv with exactly what requirements/dev.txt pins. A stamp of the inputs makes a second run instant.
# shellcheck source=hack/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

python=${PYTHON:-/usr/bin/python3}
venv=$root/.venv
stamp=$venv/stockyard.stamp

fingerprint() {
  { "$python" -VV && echo "$root" && cat "$root/requirements/bootstrap.txt" "$root/requirements/dev.txt" "${BASH_SOURCE[0]}"; } |
    sha256sum | cut -d' ' -f1
}

# uv reads none of pip's settings: hand over the ones that say where packages come from and whom to trust.
pip_setting() { "$venv/bin/pip" config list 2>/dev/null | sed -n "s/^[^.]*\.$1='\(.*\)'$/\1/p" | tail -n 1; }

translate_pip_settings() {
  local value
  value=$(pip_setting index-url) && [[ -z $value ]] || export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$value}
  value=$(pip_setting cert) && [[ -z $value ]] || export SSL_CERT_FILE=${SSL_CERT_FILE:-$value}
  value=$(pip_setting find-links) && [[ -z $value ]] || export UV_FIND_LINKS=${UV_FIND_LINKS:-${value// /,}}
}

main() {
  local want
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || die "$python is older than 3.11: set PYTHON"
  want=$(fingerprint)
  [[ ! -f $stamp || $(<"$stamp") != "$want" ]] || return 0
  say "making .venv with $("$python" --version)"
  "$python" -m venv --clear "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes --requirement "$root/requirements/bootstrap.txt"
  translate_pip_settings
  UV_PYTHON_DOWNLOADS=never "$venv/bin/uv" pip install --quiet --require-hashes --compile-bytecode --python "$venv/bin/python" \
    --requirement "$root/requirements/dev.txt"
  printf '%s\n' "$root/plugins/module_utils" >"$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/stockyard.pth"
  printf '%s\n' "$want" >"$stamp"
}

main
