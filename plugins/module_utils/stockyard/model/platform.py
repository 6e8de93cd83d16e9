# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Platforms: the emulator and the processor that a template was frozen with, and the differences
from those of its hypervisor.
"""

from __future__ import annotations

from dataclasses import dataclass

from . import naming
from .versions import later

# Words for the facts in messages.
TITLES = {
    "emulator": "QEMU",
    "machine": "machine type",
    "accelerator": "accelerator",
    "cpu_model": "CPU model",
    "cpu_features": "CPU features",
    "kernel": "kernel of the hypervisor",
    "microcode": "microcode",
}
SHOWN_FEATURES = 8


@dataclass(frozen=True)
class Platform:
    """The emulator and the processor of a frozen machine. A fact that is not known is empty.

    :param emulator: the version of QEMU.
    :param machine: the versioned machine type.
    :param accelerator: ``kvm`` or ``tcg``.
    :param cpu_model: the CPU model, as libvirt names it.
    :param cpu_features: the features that the CPU has in addition to its model. A feature of the
        model that the CPU lacks begins with an exclamation mark.
    :param kernel: the kernel release of the hypervisor.
    :param microcode: the microcode version of the hypervisor's processors.
    """

    emulator: str
    machine: str
    accelerator: str
    cpu_model: str = ""
    cpu_features: tuple[str, ...] = ()
    kernel: str = ""
    microcode: str = ""

    def __post_init__(self) -> None:
        for name in TITLES:
            if name not in ("accelerator", "cpu_features"):
                naming.platform_fact(name, getattr(self, name))
        naming.choice("accelerator", self.accelerator, ("kvm", "tcg"))
        for feature in self.cpu_features:
            naming.cpu_feature(feature)


@dataclass(frozen=True)
class Drift:
    """A difference between the platform of a frozen template and that of its hypervisor.

    :param fact: the fact that differs: a key of ``platform``.
    :param frozen: the value that the template was frozen with. Of features only those that the
        hypervisor does not have.
    :param current: the value of the hypervisor. Of features only those that the template does not
        have. Empty if the hypervisor has no such value.
    :param prevents_instant_forks: whether the frozen memory cannot be resumed because of the
        difference.
    """

    fact: str
    frozen: str
    current: str
    prevents_instant_forks: bool

    def __str__(self) -> str:
        title = TITLES[self.fact]
        if self.fact == "cpu_features":
            return f"{title}: {_differences(self)}"
        current = f"has {self.current}" if self.current else "does not have it"
        return f"{title} {self.frozen} was frozen, and the hypervisor {current}"


def compare(
    frozen: Platform | None, current: Platform | None, *, has_named_model: bool = False
) -> tuple[Drift, ...]:
    """Return the differences of a frozen platform from the current one; none if one of them is not
    known, as for templates of earlier versions.

    :param has_named_model: whether the template declares a CPU model. Its features are part of the
        declaration then, and the current platform has the model only if all are available.
    """
    if frozen is None or current is None:
        return ()
    if (frozen.machine, frozen.accelerator) != (current.machine, current.accelerator):
        # Nothing else is known of a machine that the hypervisor does not have.
        name = "machine" if frozen.machine != current.machine else "accelerator"
        return (Drift(name, getattr(frozen, name), getattr(current, name), True),)
    differences = []
    for fact in ("emulator", "cpu_model", "kernel", "microcode"):
        before, after = getattr(frozen, fact), getattr(current, fact)
        unknown = not before or (not after and not (fact == "cpu_model" and has_named_model))
        if unknown or before == after:
            continue
        prevents = fact == "cpu_model" or (fact == "emulator" and later(before, after))
        differences.append(Drift(fact, before, after, prevents))
    before_features, after_features = set(frozen.cpu_features), set(current.cpu_features)
    comparable = frozen.cpu_model == current.cpu_model != "" and not has_named_model
    if comparable and before_features != after_features:
        absent, added = before_features - after_features, after_features - before_features
        differences.append(
            Drift("cpu_features", " ".join(sorted(absent)), " ".join(sorted(added)), True)
        )
    return tuple(differences)


def mismatch(drift: tuple[Drift, ...]) -> str:
    """Return the reason why frozen memory cannot be resumed; empty if it can."""
    return "; ".join(str(item) for item in drift if item.prevents_instant_forks)


def _differences(drift: Drift) -> str:
    parts = []
    for text, description in (
        (drift.frozen, "frozen, and not on the hypervisor"),
        (drift.current, "on the hypervisor, and not frozen"),
    ):
        features = text.split()
        if features:
            first_features = " ".join(features[:SHOWN_FEATURES])
            suffix = f" and {len(features) - SHOWN_FEATURES} more"
            more = suffix if len(features) > SHOWN_FEATURES else ""
            parts.append(f"{first_features}{more} {description}")
    return ", ".join(parts)
