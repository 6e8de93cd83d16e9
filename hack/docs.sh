#!/usr/bin/env bash
# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Makes the site of documentation, build/docs/html, of docs and of every plugin and role. It needs no network.
# shellcheck source=hack/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

export PATH=$root/.venv/bin:$PATH
export ANSIBLE_COLLECTIONS_PATH=$root/build/docs-collections
copy=$ANSIBLE_COLLECTIONS_PATH/ansible_collections/stockyard/container_hosts
site=$root/build/docs

"$root/hack/sync.sh" "$copy"
rm -rf "$site/source"
mkdir -p "$site/source"
cp -r "$root/docs/." "$root/examples" "$site/source"
# What the pages link to beside them in the checkout comes with them.
sed -i 's#(\.\./examples/#(examples/#' "$site/source"/*.md
mkdir -p "$site/source/collections"
antsibull-docs collection --use-current --squash-hierarchy --fail-on-error --dest-dir "$site/source/collections" \
  stockyard.container_hosts
python "$root/hack/docs_site.py" sources "$root" "$site/source"
PYTHONPATH=$root/plugins/module_utils sphinx-build --quiet --fail-on-warning --keep-going "$@" \
  --doctree-dir "$site/trees" "$site/source" "$site/html"
python "$root/hack/docs_site.py" check "$site/html"
say "wrote $site/html/index.html"
