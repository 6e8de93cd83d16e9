# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module report."""

from __future__ import annotations

DOCUMENTATION = r"""
module: report
short_description: Show a yard as a page, or as metrics
version_added: 0.1.0
description:
  - Writes a file that shows a yard as it is. That is one page of HTML that needs nothing else, or metrics in the text
    form of Prometheus, for its node exporter's directory of text files.
  - The file is replaced in one step. Nothing in the yard is changed.
author:
  - stockyard contributors (!UNKNOWN)
extends_documentation_fragment:
  - stockyard.container_hosts.attributes
  - stockyard.container_hosts.connection
  - stockyard.container_hosts.pki
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: partial
    details: A page says when it was made. Metrics change when the yard does.
options:
  dest:
    description:
      - The file, in a directory that is there.
    type: path
    required: true
  format:
    description:
      - V(html) is a page, V(metrics) are metrics.
    type: str
    choices: [html, metrics]
    default: html
seealso:
  - module: stockyard.container_hosts.fleet_info
  - module: stockyard.container_hosts.host_info
"""

EXAMPLES = r"""
- name: Have a page of the yard
  stockyard.container_hosts.report:
    dest: /var/www/html/yard.html

- name: Have metrics for Prometheus
  stockyard.container_hosts.report:
    dest: /var/lib/prometheus/node-exporter/stockyard.prom
    format: metrics
"""

RETURN = r"""
dest:
  description: The file.
  returned: success
  type: str
  sample: /var/www/html/yard.html
figures:
  description: How many objects of each kind it shows.
  returned: success
  type: dict
  sample: {fleets: 1, hosts: 3, templates: 1, leases: 0, pools: 0, volumes: 0, strangers: 0}
"""

from ansible_collections.stockyard.container_hosts.plugins.module_utils._ansible import ask, asking

OPTIONS = {
    "dest": {"type": "path", "required": True},
    "format": {"type": "str", "choices": ["html", "metrics"], "default": "html"},
}


def main() -> None:
    """Run the module."""
    module = asking(OPTIONS)
    ask(module, lambda yard, params: yard.report(params["dest"], params["format"], check=module.check_mode))


if __name__ == "__main__":
    main()
