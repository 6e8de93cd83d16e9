# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Create the yard of yard.yml without Ansible: one template, three hosts and their connections."""

from stockyard import FleetSpec, HostSpec, TemplateSpec, Yard

with Yard(owner="demo", progress=print) as yard:
    yard.templates.apply(TemplateSpec("docker"))
    web = yard.fleets.apply(
        FleetSpec("web", template="docker", count=3, host=HostSpec(ports=(8080,)))
    )
    for host in web.objects:
        print(host.name, host.ssh.command, host.docker.export, sep="\n")
