# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel that all containers share: its settings, and the modules that it must not load."""

from __future__ import annotations

from ...model.recipe import GuestFile
from ...model.security import Settings
from .part import NOTHING, Part

# Sorts after procps' 99-protect-links.conf, which sets weaker values: the last value counts
# (sysctl.d(5)).
SYSCTL = "/etc/sysctl.d/99-stockyard.conf"
MODPROBE = "/etc/modprobe.d/stockyard.conf"
# Docker works with all of these values. Names and meanings: Documentation/admin-guide/sysctl of the
# kernel.
SYSCTLS = {
    "kernel.randomize_va_space": "2",
    "kernel.kptr_restrict": "2",
    "kernel.dmesg_restrict": "1",
    "kernel.perf_event_paranoid": "3",
    "kernel.unprivileged_bpf_disabled": "1",
    "kernel.yama.ptrace_scope": "2",
    "kernel.sysrq": "0",
    "kernel.kexec_load_disabled": "1",
    "net.core.bpf_jit_harden": "2",
    "net.ipv4.conf.all.accept_redirects": "0",
    "net.ipv4.conf.all.accept_source_route": "0",
    "net.ipv4.conf.all.send_redirects": "0",
    "net.ipv4.tcp_syncookies": "1",
    "net.ipv6.conf.all.accept_redirects": "0",
    "dev.tty.ldisc_autoload": "0",
    "vm.unprivileged_userfaultfd": "0",
    "vm.mmap_min_addr": "65536",
    "fs.protected_hardlinks": "1",
    "fs.protected_symlinks": "1",
    "fs.protected_fifos": "2",
    "fs.protected_regular": "2",
    "fs.suid_dumpable": "0",
}
# Protocols and file systems that the kernel would load on a program's request, and that containers
# do not need.
MODULES = (
    "ax25",
    "can",
    "cramfs",
    "dccp",
    "freevxfs",
    "hfs",
    "hfsplus",
    "jffs2",
    "n_hdlc",
    "netrom",
    "rds",
    "rose",
    "sctp",
    "tipc",
    "udf",
    "usb-storage",
    "x25",
)


def sysctls(settings: Settings) -> dict[str, str]:
    """Return the kernel settings of a profile and the user's, which take precedence."""
    if not settings.kernel:
        return dict(settings.sysctls)
    userns_clone = "1" if settings.user_namespaces == "rootless" else "0"
    return {**SYSCTLS, "kernel.unprivileged_userns_clone": userns_clone, **settings.sysctls}


def part(settings: Settings) -> Part:
    """Return the files with the kernel settings and the blocked modules."""
    files = {}
    if kernel_settings := sysctls(settings):
        # The hyphen: a setting that the kernel does not know is no error.
        files[SYSCTL] = GuestFile(
            "".join(f"-{key} = {value}\n" for key, value in sorted(kernel_settings.items()))
        )
    if settings.kernel:
        files[MODPROBE] = GuestFile("".join(f"install {name} /bin/false\n" for name in MODULES))
    return Part(files=files) if files else NOTHING
