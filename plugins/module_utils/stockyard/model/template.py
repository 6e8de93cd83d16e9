# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Templates: declaration and record."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..errors import InvalidInput, Unsupported
from . import naming
from .codec import SPARSE
from .image import DEFAULT_RUNTIME, DOCKER_CE, RUNTIMES, BuildOptions, ImageSpec
from .platform import Platform
from .provision import Provision
from .security import PROFILES, SecuritySpec

ACCELERATORS = ("auto", "kvm", "tcg")
DOCKER_KINDS = ("running", "stopped")
KEEP = 2


@dataclass(frozen=True)
class Cpu:
    """The processor of a template's machine.

    :param model: the CPU model, as libvirt names it. Empty for the hypervisor's own CPU with KVM,
        and for all that can be emulated otherwise.
    """

    model: str = ""

    def __post_init__(self) -> None:
        if self.model:
            naming.cpu_model(self.model)

    def __str__(self) -> str:
        return self.model or "the default"


@dataclass(frozen=True)
class Hardware:
    """The machine that a template is frozen with. A fork must match it exactly.

    :param vcpus: the number of virtual CPUs at start.
    :param max_vcpus: the number of virtual CPUs that it can get later.
    :param memory_mib: the memory, in MiB.
    :param spare_ports: the number of free PCI Express root ports for hot-plug.
    :param accelerator: ``auto`` (KVM if the CPU has it, else TCG), ``kvm`` or ``tcg``.
    :param cpu: the processor.
    """

    vcpus: int = 1
    max_vcpus: int = 4
    memory_mib: int = 1024
    spare_ports: int = 4
    accelerator: str = field(default="auto", metadata={"choices": ACCELERATORS})
    cpu: Cpu = field(default_factory=Cpu, metadata=SPARSE)

    def __post_init__(self) -> None:
        naming.whole("vcpus", self.vcpus, 1, 255)
        naming.whole("max_vcpus", self.max_vcpus, 1, 255)
        naming.whole("memory_mib", self.memory_mib, 512, 1 << 20)
        naming.whole("spare_ports", self.spare_ports, 0, 12)
        naming.check_choices(self)
        if self.vcpus > self.max_vcpus:
            raise InvalidInput(
                f"vcpus is {self.vcpus}, over max_vcpus {self.max_vcpus}.", remedy="raise max_vcpus"
            )


@dataclass(frozen=True)
class TemplateSpec:
    """A declared template.

    :param name: its name in the yard.
    :param tenant: the trust domain of its forks.
    :param image: the content of its image.
    :param build: the origin of the image; not part of the digest.
    :param hardware: the machine.
    :param docker: ``running`` (frozen with dockerd up) or ``stopped`` (dockerd starts in the fork).
    :param upgrade: whether later packages at the mirror lead to a new generation; every run asks
        the mirror.
    :param max_age: seconds after which a new generation is built, with or without later packages.
    :param keep_generations: the number of generations to keep, the current one included;
        generations with hosts stay anyway.
    :param max_memory_mib: the memory that a running host can get, in MiB; no more than at start if
        0.
    :param security: the security of its hosts; part of the digest. A derived template has that of
        its parent by default.
    :param provision: a playbook or roles that run against it before the freeze.
    :param secure_boot: refused, with the reason.
    :param vtpm: refused, with the reason.
    :param parent: the template of the same tenant that it is derived from: a fork of that template
        gets the packages, files, images and commands of this one. Empty for none.
    :param from_host: the host of the same tenant that it is created from: the host is branched, and
        the branch is scrubbed and frozen. Empty for none.
    :param revision: a text of the user. Another text requests another generation of a template that
        is created from a host.
    :param share_dir: the directory on the hypervisor with templates that owners share. Empty for
        none. Not part of the digest.
    :param trusted_keys: the public keys of other owners whose templates in this directory are
        loaded. Not part of the digest.
    """

    name: str
    tenant: str = "default"
    image: ImageSpec = field(default_factory=ImageSpec)
    build: BuildOptions = field(default_factory=BuildOptions)
    hardware: Hardware = field(default_factory=Hardware)
    docker: str = field(default="running", metadata={"choices": DOCKER_KINDS})
    upgrade: bool = False
    max_age: float | None = None
    keep_generations: int = KEEP
    max_memory_mib: int = 0
    security: SecuritySpec = field(default_factory=SecuritySpec)
    provision: Provision | None = None
    secure_boot: bool = False
    vtpm: bool = False
    parent: str = ""
    from_host: str = ""
    revision: str = ""
    share_dir: str = ""
    trusted_keys: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        naming.name("template", self.name)
        naming.name("tenant", self.tenant)
        naming.check_choices(self)
        naming.whole("max_memory_mib", self.max_memory_mib, 0, 1 << 22)
        if 0 < self.max_memory_mib < self.hardware.memory_mib:
            raise InvalidInput(
                f"max_memory_mib is {self.max_memory_mib}, under memory_mib "
                f"{self.hardware.memory_mib}.",
                name=f"template {self.name}",
                remedy="raise max_memory_mib, or omit it",
            )
        if self.docker == "stopped" and self.image.preload:
            raise InvalidInput(
                "preload requires docker: running.",
                name=f"template {self.name}",
                remedy="omit preload, or declare docker: running",
            )
        naming.whole("keep_generations", self.keep_generations, 1, 1000)
        if self.max_age is not None:
            naming.seconds("max_age", self.max_age, 60, 10 * 366 * 86400)
        self._refuse_impossible()
        if self.parent:
            self._check_parent()
        naming.line("revision", self.revision)
        self._check_sharing()
        if self.from_host:
            self._check_host()
        elif self.revision:
            raise InvalidInput(
                "revision requires from_host.",
                name=f"template {self.name}",
                remedy="omit revision: other templates follow their declarations",
            )

    def _check_sharing(self) -> None:
        """Check the directory with shared templates, and the signers that are trusted."""
        naming.line("share_dir", self.share_dir)
        for key in self.trusted_keys:
            naming.signer_key(key)
        if self.trusted_keys and not self.share_dir:
            raise InvalidInput(
                "trusted_keys requires share_dir.",
                name=f"template {self.name}",
                remedy="declare the directory that the owners share, or omit trusted_keys",
            )
        if self.share_dir and not self.share_dir.startswith(("/", "~")):
            raise InvalidInput(
                f"share_dir {naming.shown(self.share_dir)} is a relative path.",
                name=f"template {self.name}",
                remedy="write the whole path of the directory",
            )

    def _check_host(self) -> None:
        """Check the options of a template that is created from a host: it is as the host is."""
        naming.name("from_host", self.from_host)
        options = {
            "from": (self.parent, ""),
            "the content of an image": (self.image, ImageSpec()),
            "a property of the machine": (self.hardware, Hardware()),
            "docker": (self.docker, "running"),
            "upgrade": (self.upgrade, False),
            "max_age": (self.max_age, None),
            "max_memory_mib": (self.max_memory_mib, 0),
            "security": (self.security, SecuritySpec()),
            "provision": (self.provision, None),
            "share_dir": (self.share_dir, ""),
        }
        for option, (value, default) in options.items():
            if value != default:
                raise InvalidInput(
                    f"from_host excludes {option}.",
                    name=f"template {self.name}",
                    cause="the template is what the host is",
                    remedy=f"omit {option}, or derive another template from this one",
                )

    def _check_parent(self) -> None:
        """Check the options of a derived template, as far as its parent does not decide."""
        naming.name("from", self.parent)
        if self.parent == self.name:
            raise InvalidInput(
                "the template is derived from itself.",
                name=f"template {self.name}",
                remedy="name another template in from",
            )
        if self.image.source or self.image.cloud_image:
            raise InvalidInput(
                "from excludes source and cloud_image.",
                name=f"template {self.name}",
                cause="a derived template is a fork of another template, and has its disk",
                remedy="declare them for the other template",
            )

    def _refuse_impossible(self) -> None:
        """Refuse security that is impossible with the other options, or in general."""
        if self.vtpm:
            raise Unsupported(
                "a virtual TPM is not supported.",
                name=f"template {self.name}",
                cause="its seeds are in the frozen state: all instant forks would have the "
                "same TPM, and each could open the secrets of the others. Linked forks "
                "boot separately and could have separate TPMs, which is not implemented",
                remedy="omit vtpm; security.encrypted_data protects data at rest",
            )
        if self.secure_boot:
            raise Unsupported(
                "Secure Boot is not supported.",
                name=f"template {self.name}",
                cause="the hypervisor passes kernel and initrd to the machine, and no "
                "firmware checks signatures; these files belong to the hypervisor, and "
                "no guest can change them",
                remedy="omit secure_boot",
            )
        if self.image.source and self.security != SecuritySpec():
            raise InvalidInput(
                "source is a finished machine, to which security cannot be added.",
                remedy="apply it to the source, with the roles or files that the page on "
                "security names",
            )
        if self.image.source and self.provision:
            raise InvalidInput(
                "source is a finished machine, in which provision cannot run.",
                remedy="run the playbook in another template, which is derived from this one, or "
                "omit source on a hypervisor that builds images",
            )
        is_built = not self.parent and not self.from_host
        if self.image.docker_packages == DOCKER_CE and is_built and not self.build.repositories:
            raise InvalidInput(
                "docker_packages: docker-ce requires a repository that contains these packages.",
                name=f"template {self.name}",
                remedy="add https://download.docker.com/linux/debian with the component stable to "
                "repositories, with Docker's public key as signed_by",
            )
        if self.docker == "running" and self.security.encrypted_data:
            raise InvalidInput(
                "security: encrypted_data requires docker: stopped.",
                name=f"template {self.name}",
                cause="a running Docker has its data on the unencrypted disk of a new host",
                remedy="declare docker: stopped, and a volume at /var/lib/docker for its hosts",
            )
        if self.docker == "stopped" and self.security.settings().user_namespaces == "rootless":
            raise InvalidInput(
                "security: rootless and docker: stopped exclude each other.",
                cause="a rootless Docker has its data in the home of its user, and docker: "
                "stopped is for data at /var/lib/docker",
                remedy="choose remap, or docker: running",
            )


@dataclass(frozen=True)
class Source:
    """The origin of the packages of a generation: enough to look for later versions.

    :param suite: the Debian release.
    :param packages: the declared packages; others are installed as their dependencies.
    :param build: the mirrors, without user names and passwords.
    """

    suite: str
    packages: tuple[str, ...]
    build: BuildOptions = field(default_factory=BuildOptions)

    def __post_init__(self) -> None:
        naming.name("suite", self.suite)
        for item in self.packages:
            naming.package(item)


@dataclass(frozen=True)
class Derivation:
    """The origin of a derived generation.

    :param parent: the template that it was derived from.
    :param generation: the generation of that template.
    :param packages: the version of each package that was added to those of the parent.
    """

    parent: str
    generation: str
    packages: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        naming.name("parent", self.parent)
        naming.digest("generation of the parent", self.generation)
        for package, version in self.packages.items():
            naming.package(package)
            naming.package_version(version)


TEMPLATE_PHASES = ("building", "booting", "frozen", "deleting")


@dataclass(frozen=True)
class TemplateRecord:
    """The record of one generation of a template on the hypervisor.

    :param generation: SHA-256 over image and hardware; names this generation.
    :param recipe: SHA-256 of the declaration, before packages were resolved to versions.
    :param options: SHA-256 of the declaration's options alone, without stockyard's own files in the
        guest; empty if unknown.
    :param image: SHA-256 of the image, resolved versions included.
    :param phase: ``building``, ``booting``, ``frozen`` (it can be forked) or ``deleting``.
    :param created: seconds since the epoch.
    :param version: counts every change, for compare and set.
    :param checksums: SHA-256 of state, RAM file and disk, once frozen.
    :param promoted: the time at which it became current again although later generations exist; 0
        for never.
    :param source: the origin of its packages, if known.
    :param disk_gib: virtual size of its disk in GiB; 0 if unknown.
    :param max_memory_mib: the memory that a running fork can get, in MiB; no more than at start if
        0.
    :param provision: the playbook or roles that ran in it before the freeze, in words; empty for
        none.
    :param encrypted: whether the volumes of its hosts are encrypted.
    :param profile: the security profile of its hosts; empty if unknown.
    :param derivation: the generation that it was derived from; ``None`` if it was built.
    :param security: the security of its hosts; ``None`` if unknown.
    :param from_host: the host that it was created from; empty if it was built or derived.
    :param runtime: the program with which its Docker runs containers by default.
    :param platform: the emulator and the processor that it was frozen with; ``None`` if unknown.
    """

    owner: str
    tenant: str
    name: str
    uuid: str
    generation: str
    recipe: str
    image: str
    hardware: Hardware
    docker: str
    ssh_user: str
    phase: str
    created: float
    mac: str
    version: int = 1
    checksums: dict[str, str] | None = None
    promoted: float = 0.0
    source: Source | None = None
    disk_gib: int = 0
    max_memory_mib: int = 0
    provision: str = ""
    encrypted: bool = False
    options: str = ""
    profile: str = field(default="", metadata=SPARSE)
    derivation: Derivation | None = field(default=None, metadata=SPARSE)
    security: SecuritySpec | None = field(default=None, metadata=SPARSE)
    from_host: str = field(default="", metadata=SPARSE)
    runtime: str = field(default=DEFAULT_RUNTIME, metadata=SPARSE)
    platform: Platform | None = field(default=None, metadata=SPARSE)

    kind = "template"

    def __post_init__(self) -> None:
        for attribute, value in (
            ("owner", self.owner),
            ("tenant", self.tenant),
            ("template", self.name),
        ):
            naming.name(attribute, value)
        naming.identifier(self.uuid)
        for attribute in ("generation", "recipe"):
            naming.digest(attribute, getattr(self, attribute))
        if self.options:
            naming.digest("options", self.options)
        naming.image(self.image)
        naming.choice("docker", self.docker, DOCKER_KINDS)
        naming.user(self.ssh_user)
        naming.choice("runtime", self.runtime, RUNTIMES)
        naming.mac(self.mac)
        naming.choice("phase", self.phase, TEMPLATE_PHASES)
        for attribute in ("created", "promoted"):
            naming.moment(attribute, getattr(self, attribute))
        naming.whole("version", self.version, 0, naming.VERSION_MAX)
        for part, digest in (self.checksums or {}).items():
            naming.line("checksums", part)
            naming.line(f"checksum of {part}", digest)
        naming.whole("disk_gib", self.disk_gib, 0, 1 << 30)
        naming.whole("max_memory_mib", self.max_memory_mib, 0, 1 << 30)
        naming.line("provision", self.provision, 8192)
        naming.choice("profile", self.profile, ("", *PROFILES))
        if self.from_host:
            naming.name("from_host", self.from_host)

    @property
    def since(self) -> float:
        """Return the moment that decides which generation is current: the latest one is."""
        return max(self.created, self.promoted)

    @property
    def is_clone(self) -> bool:
        """Return whether its disk comes from a machine of the hypervisor, whose content is not
        known.
        """
        return "@" in self.image

    @property
    def domain(self) -> str:
        """Return its name on the hypervisor."""
        return f"{self.owner}.{self.tenant}.template.{self.name}.{self.generation[:12]}"

    @property
    def title(self) -> str:
        """Return its name in messages."""
        return f"template {self.name} ({self.generation[:12]})"
