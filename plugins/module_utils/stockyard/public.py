# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The public names of the SDK, which users import from ``stockyard``."""

from __future__ import annotations

from .clients.certificates import CertificatesClient
from .clients.endpoints import EndpointsClient
from .clients.fleets import FleetsClient
from .clients.hosts import HostsClient
from .clients.leases import HeldLease, LeasesClient
from .clients.pools import PoolsClient
from .clients.templates import TemplatesClient
from .clients.volumes import VolumesClient
from .errors import (
    AddressTaken,
    Busy,
    Conflict,
    ConnectionFailed,
    ControllerError,
    DeadlineExceeded,
    GuestBroken,
    GuestError,
    HypervisorError,
    ImageError,
    InvalidInput,
    LeaseExpired,
    MissingDependency,
    NotFound,
    OperationRefused,
    OutOfSpace,
    PoolQuotaExceeded,
    StockyardError,
    UnforeseenError,
    Unsupported,
)
from .model.access_info import DockerAccess, SshAccess, SshConfigInfo
from .model.artifact_info import ArtifactInfo
from .model.branch import BranchSpec
from .model.certificate_info import ClientCertificateInfo
from .model.cloud_image import CloudImage
from .model.endpoint import EndpointSpec
from .model.endpoint_info import EndpointInfo, EndpointMachine
from .model.fleet import FleetSpec, SingleSpec
from .model.fleet_info import FleetInfo
from .model.host import HostSpec
from .model.host_info import (
    HostIdentityInfo,
    HostInfo,
    MemoryUse,
    MountedVolume,
    RefusedDestination,
)
from .model.image import BuildOptions, ImageSpec
from .model.lease import LeaseSpec
from .model.lease_info import LeaseInfo
from .model.login import Login, RegistryLogin
from .model.network import PublishSpec
from .model.placements import Hypervisor
from .model.platform import Drift, Platform
from .model.pool import PoolSpec
from .model.pool_info import FreeAmounts, HostMemory, PoolAmounts, PoolInfo, PoolMemory
from .model.provision import Provision
from .model.repository import Repository
from .model.security import Limits, Policy, SecuritySpec
from .model.template import Cpu, Hardware, TemplateSpec
from .model.template_info import PackageMirrors, PackageSource, TemplateInfo, TemplateSizes
from .model.update import UpdateSpec
from .model.versions import MissingUpdate
from .model.volume import VolumeSpec, VolumeUse
from .model.volume_info import VolumeInfo
from .model.yard_info import HypervisorInfo, ReportInfo, SkippedObject
from .planning.declaration import (
    Declaration,
    EndpointTerm,
    FleetTerm,
    PoolTerm,
    SuspendedFleetTerm,
    TemplateTerm,
    VolumeTerm,
)
from .planning.plan import Action, Plan
from .resources.certificates.clients import Client
from .result import Result
from .yard import Yard

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
