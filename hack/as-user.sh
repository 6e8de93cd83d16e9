#!/usr/bin/env bash
# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# as-user.sh TARGET: what `make TARGET` does for root. Installs packages, makes sure that an ordinary user exists,
# copies the checkout into that user's home and runs the target there. Nothing else ever runs as root.
# shellcheck source=hack/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

user=${STOCKYARD_USER:-stockyard}
copy=.cache/stockyard/checkout/ansible_collections/stockyard/container_hosts

ensure_user() {
  if ! getent passwd "$user" >/dev/null; then
    say "making the ordinary user $user"
    useradd --create-home --shell /bin/bash "$user"
    ! getent group kvm >/dev/null || usermod --append --groups kvm "$user"
  fi
  [[ $(id -u "$user") != 0 ]] || die "STOCKYARD_USER names root: name an ordinary user"
  ensure_subordinate_ids /etc/subuid --add-subuids
  ensure_subordinate_ids /etc/subgid --add-subgids
}

ensure_subordinate_ids() {
  local file=$1 option=$2 first
  touch "$file"
  ! grep -q "^$user:" "$file" || return 0
  first=$(awk -F: 'BEGIN { top = 100000 } $2 + $3 > top { top = $2 + $3 } END { print top }' "$file")
  usermod "$option" "$first-$((first + 65535))" "$user"
}

# The user's environment is root's, less what belongs to root: homes, sessions, Python's and make's own variables.
as_user() {
  local home path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin name drop=()
  home=$(getent passwd "$user" | cut -d: -f6)
  [[ ! -d /usr/local/go/bin ]] || path+=:/usr/local/go/bin
  while IFS= read -r name; do
    case $name in
      XDG_* | SUDO_* | PYENV* | PYTHONHOME | PYTHONPATH | VIRTUAL_ENV* | MAKE* | MFLAGS | TMPDIR | DBUS_* | MAIL) drop+=(-u "$name") ;;
      *) [[ ${!name} != "${HOME:-/root}"/* ]] || drop+=(-u "$name") ;;
    esac
  done < <(compgen -e)
  runuser -u "$user" -- env --chdir=/ "${drop[@]}" HOME="$home" USER="$user" LOGNAME="$user" SHELL=/bin/bash PATH="$path" \
    STOCKYARD_BECOME="su - $user" "$@"
}

# The copy has one place, so that its .venv and templates stay warm. Runs of one checkout share it, as they would share
# the checkout itself; a run of another checkout waits until they have ended. The kernel drops these locks with us.
lock_copy() {
  local state=/run/stockyard-$user
  install -d -m 0700 "$state"
  exec {sync_lock}>"$state/sync.lock" {run_lock}>"$state/run.lock"
  flock "$sync_lock"
  if [[ $(cat "$state/source" 2>/dev/null) != "$root" ]]; then
    flock --nonblock "$run_lock" || { say "another checkout is in use by $user: waiting"; flock "$run_lock"; }
    printf '%s\n' "$root" >"$state/source"
  fi
  flock --shared "$run_lock"
}

main() {
  local target=$1 copy_path
  "$root/hack/packages.sh"
  ensure_user
  copy_path=$(getent passwd "$user" | cut -d: -f6)/$copy
  if [[ $root == "$copy_path" ]]; then
    as_user make --no-print-directory -C "$copy_path" "$target" "${@:2}"
    return
  fi
  lock_copy
  "$root/hack/sync.sh" "$copy_path" runuser -u "$user" -- {sync_lock}>&- {run_lock}>&-
  exec {sync_lock}>&-
  as_user make --no-print-directory -C "$copy_path" "$target" "${@:2}" {run_lock}>&-
}

main "$@"
