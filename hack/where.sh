#!/usr/bin/env bash
# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Prints the commands that lead to the tools and the yard that `make demo` made, and the directory of the keys.
# STOCKYARD_BECOME is the command that makes root the user who owns them; as-user.sh sets it.
# shellcheck source=hack/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

say "the hosts belong to the user $(id -un); their keys are in ${XDG_CONFIG_HOME:-$HOME/.config}/stockyard. Go on with:"
[[ -z ${STOCKYARD_BECOME:-} ]] || printf '  %s\n' "$STOCKYARD_BECOME"
printf '  %s\n' "cd $root" "source .venv/bin/activate" "stockyard ls" "export ANSIBLE_COLLECTIONS_PATH=$root/build/collections" \
  "ansible-playbook stockyard.container_hosts.site -e yard=examples/yard.yml"
