#!/usr/bin/env bash
# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# playbook.sh [--demo] NAME [ARGUMENT...]: run a playbook of this collection out of the checkout. With --demo, the command
# stockyard in this checkout uses the declaration that `-e yard=FILE` names.
# shellcheck source=hack/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

collections=$root/build/collections
link=$collections/ansible_collections/stockyard/container_hosts

mkdir -p "$(dirname "$link")"
ln -sfn "$root" "$link"
[[ ! -d $root/.venv/bin ]] || ln -sfn "$root/hack/stockyard" "$root/.venv/bin/stockyard"

if [[ $1 == --demo ]]; then
  shift
  for word in "${@:2}"; do
    [[ $word != yard=* ]] || realpath --no-symlinks "${word#yard=}" >"$root/build/demo-declaration"
  done
fi

export ANSIBLE_COLLECTIONS_PATH=$collections${ANSIBLE_COLLECTIONS_PATH:+:$ANSIBLE_COLLECTIONS_PATH}
export ANSIBLE_LOCALHOST_WARNING=False ANSIBLE_INVENTORY_UNPARSED_WARNING=False
export PATH=$root/.venv/bin:$PATH

exec ansible-playbook "stockyard.container_hosts.$1" "${@:2}"
