#!/usr/bin/env bash
# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Renders the documentation of every plugin and role to build/docs.
# shellcheck source=hack/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

export PATH=$root/.venv/bin:$PATH
export ANSIBLE_COLLECTIONS_PATH=$root/build/docs-collections
copy=$ANSIBLE_COLLECTIONS_PATH/ansible_collections/stockyard/container_hosts

"$root/hack/sync.sh" "$copy"
mkdir -p "$root/build/docs"
antsibull-docs collection --use-current --squash-hierarchy --fail-on-error --dest-dir "$root/build/docs" "$@" \
  stockyard.container_hosts
say "wrote $root/build/docs"
