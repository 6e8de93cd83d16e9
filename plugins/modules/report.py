# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module report."""

from __future__ import annotations

DOCUMENTATION = r"""
module: report
short_description: Create an HTML report or Prometheus metrics of a yard
version_added: 0.1.0
description:
  - Writes the state of a yard to a file, as one self-contained HTML page, or as metrics in the text
    format of Prometheus for the textfile collector of its node exporter.
  - The file is replaced atomically. The yard does not change.
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
    details: An HTML page contains the time of its creation. Metrics change only with the yard.
options:
  dest:
    description: The path of the file. Its directory must exist.
    type: path
    required: true
  format:
    description:
      - V(html) writes an HTML page.
      - V(metrics) writes metrics.
    type: str
    choices: [html, metrics]
    default: html
seealso:
  - module: stockyard.container_hosts.fleet_info
  - module: stockyard.container_hosts.host_info
"""

EXAMPLES = r"""
- name: Write an HTML page
  stockyard.container_hosts.report:
    dest: /var/www/html/yard.html

- name: Write metrics for Prometheus
  stockyard.container_hosts.report:
    dest: /var/lib/prometheus/node-exporter/stockyard.prom
    format: metrics
"""

RETURN = r"""
dest:
  description: The path of the file.
  returned: success
  type: str
  sample: /var/www/html/yard.html
figures:
  description: The number of objects of each kind.
  returned: success
  type: dict
  sample: {fleets: 1, hosts: 3, templates: 1, leases: 0, pools: 0, volumes: 0, strangers: 0}
error:
  description: The error.
  returned: failure
  type: dict
  contains:
    kind:
      description: The class of the error.
      type: str
      sample: HypervisorError
    object:
      description: The object of the error. It can be empty.
      type: str
      sample: qemu:///session
    cause:
      description: The cause. It can be empty.
      type: str
      sample: Failed to connect socket to /run/user/1000/libvirt/virtqemud-sock
    remedy:
      description: An instruction that corrects the problem. It can be empty.
      type: str
      sample: start libvirt, then run again
"""

from ..module_utils._ansible import info_module, run_query

OPTIONS = {
    "dest": {"type": "path", "required": True},
    "format": {"type": "str", "choices": ["html", "metrics"], "default": "html"},
}


def main() -> None:
    """Run the module."""
    module = info_module(OPTIONS)
    run_query(
        module,
        lambda yard, params: yard.report(
            params["dest"], params["format"], check=module.check_mode
        ).to_dict(),
    )


if __name__ == "__main__":
    main()
