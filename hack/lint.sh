#!/usr/bin/env bash
# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# lint.sh [CHECK...]: run the named checks, or all of them, and say which failed. A check is a function check_NAME.
# Ansible's tools want a collection in its place in a collections tree, and a home of their own: both are under build.
# shellcheck source=hack/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

readonly work=$root/build/lint
readonly copy=$work/collections/ansible_collections/stockyard/container_hosts
readonly all=(sanity ruff mypy words shellcheck yamllint reuse changelog ansible-lint docs site galaxy)

check_ruff() { ruff check --quiet --output-format concise . && ruff format --check --quiet --diff .; }
check_mypy() { cd "$root" && mypy; }
check_words() { python hack/words.py; }
check_shellcheck() { grep -rlE '^#!.*\bbash' --exclude-dir=.git . | xargs shellcheck --external-sources; }
check_yamllint() { yamllint --strict .; }
check_reuse() { reuse lint --quiet || reuse lint --lines; }
check_changelog() { antsibull-changelog lint; }
check_ansible-lint() { ansible-lint --nocolor --offline --profile production; }
check_docs() { antsibull-docs lint-collection-docs --plugin-docs .; }
check_site() { "$root/hack/docs.sh"; }
check_galaxy() { "$root/hack/galaxy.sh"; }

check_sanity() {
  local pip_version python
  pip_version=$(python -c 'from ansible_test._internal import python_requirements as r; print(r.get_venv_packages(
    type("Python", (), {"version": ""}))["pip"])')
  python=$(python -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  mkdir -p "$HOME/.ansible/test/cache"
  cp "$root/hack/get_pip.py" "$HOME/.ansible/test/cache/get_pip_${pip_version//./_}.py"
  ansible-test sanity --local --python "$python" --color no 2>&1 | tee "$work/sanity.out" &&
    ! grep -q "targets skipped" "$work/sanity.out"
}

run() {
  local name=$1 log=$work/$1.log started=$SECONDS
  if (cd "$copy" && "check_$name") >"$log" 2>&1 </dev/null; then
    printf 'ok     %-14s %3d s\n' "$name" $((SECONDS - started))
  else
    cat "$log"
    printf 'FAILED %-14s %3d s\n' "$name" $((SECONDS - started))
    return 1
  fi
}

run_each() {
  local name failed=0
  for name in "$@"; do run "$name" || failed=1; done
  return "$failed"
}

main() {
  local name others=() sanity=() failed=0
  for name in "${@:-${all[@]}}"; do
    declare -F "check_$name" >/dev/null || die "no check is called $name; there are: ${all[*]}"
    if [[ $name == sanity ]]; then sanity=(sanity); else others+=("$name"); fi
  done
  "$root/hack/sync.sh" "$copy"
  mkdir -p "$work/home"
  # The copy lies in a directory that git ignores: ansible-test would see no files in it, were it no checkout itself.
  git init --quiet "$copy"
  export HOME=$work/home PATH=$root/.venv/bin:$PATH ANSIBLE_COLLECTIONS_PATH=$work/collections
  # The slowest check runs beside the others.
  run_each "${sanity[@]}" &
  run_each "${others[@]}" || failed=1
  wait $! || failed=1
  return "$failed"
}

main "$@"
