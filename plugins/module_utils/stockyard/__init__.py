# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: F405  # the names of __all__ come from the import with a star
"""stockyard: container hosts as cattle. The public names of the SDK.

A name is imported when it is first used, so that the command line imports only what a command
needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .public import *  # noqa: F403  # the names of __all__, and no others

__all__ = [
    "Action",
    "AddressTaken",
    "ArtifactInfo",
    "BranchSpec",
    "BuildOptions",
    "Busy",
    "CertificatesClient",
    "Client",
    "ClientCertificateInfo",
    "CloudImage",
    "Conflict",
    "ConnectionFailed",
    "ControllerError",
    "Cpu",
    "DeadlineExceeded",
    "Declaration",
    "DockerAccess",
    "Drift",
    "EndpointInfo",
    "EndpointMachine",
    "EndpointSpec",
    "EndpointTerm",
    "EndpointsClient",
    "FleetInfo",
    "FleetSpec",
    "FleetTerm",
    "FleetsClient",
    "FreeAmounts",
    "GuestBroken",
    "GuestError",
    "Hardware",
    "HeldLease",
    "HostIdentityInfo",
    "HostInfo",
    "HostMemory",
    "HostSpec",
    "HostsClient",
    "Hypervisor",
    "HypervisorError",
    "HypervisorInfo",
    "ImageError",
    "ImageSpec",
    "InvalidInput",
    "LeaseExpired",
    "LeaseInfo",
    "LeaseSpec",
    "LeasesClient",
    "Limits",
    "Login",
    "MemoryUse",
    "MissingDependency",
    "MissingUpdate",
    "MountedVolume",
    "NotFound",
    "OperationRefused",
    "OutOfSpace",
    "PackageMirrors",
    "PackageSource",
    "Plan",
    "Platform",
    "Policy",
    "PoolAmounts",
    "PoolInfo",
    "PoolMemory",
    "PoolQuotaExceeded",
    "PoolSpec",
    "PoolTerm",
    "PoolsClient",
    "Provision",
    "PublishSpec",
    "RefusedDestination",
    "RegistryLogin",
    "ReportInfo",
    "Repository",
    "Result",
    "SecuritySpec",
    "SingleSpec",
    "SkippedObject",
    "SshAccess",
    "SshConfigInfo",
    "StockyardError",
    "SuspendedFleetTerm",
    "TemplateInfo",
    "TemplateSizes",
    "TemplateSpec",
    "TemplateTerm",
    "TemplatesClient",
    "UnforeseenError",
    "Unsupported",
    "UpdateSpec",
    "VolumeInfo",
    "VolumeSpec",
    "VolumeTerm",
    "VolumeUse",
    "VolumesClient",
    "Yard",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import public

    return getattr(public, name)
