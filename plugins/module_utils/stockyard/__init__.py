# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""stockyard: container hosts as cattle. The public names of the SDK."""

from __future__ import annotations

from .clients.certificates import CertificatesClient
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
from .model.cloud_image import CloudImage
from .model.fleet import FleetSpec, SingleSpec
from .model.host import HostSpec
from .model.image import BuildOptions, ImageSpec
from .model.lease import LeaseSpec
from .model.login import Login
from .model.placements import Hypervisor
from .model.pool import PoolSpec
from .model.provision import Provision
from .model.repository import Repository
from .model.security import Limits, Policy, SecuritySpec
from .model.template import Hardware, TemplateSpec
from .model.update import UpdateSpec
from .model.volume import VolumeSpec, VolumeUse
from .planning.declaration import Declaration, FleetTerm, PoolTerm, TemplateTerm, VolumeTerm
from .planning.plan import Action, Plan
from .resources.certificates.clients import Client
from .result import Result
from .yard import Yard

__all__ = [
    "Action",
    "AddressTaken",
    "BuildOptions",
    "Busy",
    "CertificatesClient",
    "Client",
    "CloudImage",
    "Conflict",
    "ConnectionFailed",
    "ControllerError",
    "DeadlineExceeded",
    "Declaration",
    "FleetSpec",
    "FleetTerm",
    "FleetsClient",
    "GuestBroken",
    "GuestError",
    "Hardware",
    "HeldLease",
    "HostSpec",
    "HostsClient",
    "Hypervisor",
    "HypervisorError",
    "ImageError",
    "ImageSpec",
    "InvalidInput",
    "LeaseExpired",
    "LeaseSpec",
    "LeasesClient",
    "Limits",
    "Login",
    "MissingDependency",
    "NotFound",
    "OperationRefused",
    "OutOfSpace",
    "Plan",
    "Policy",
    "PoolQuotaExceeded",
    "PoolSpec",
    "PoolTerm",
    "PoolsClient",
    "Provision",
    "Repository",
    "Result",
    "SecuritySpec",
    "SingleSpec",
    "StockyardError",
    "TemplateSpec",
    "TemplateTerm",
    "TemplatesClient",
    "UnforeseenError",
    "Unsupported",
    "UpdateSpec",
    "VolumeSpec",
    "VolumeTerm",
    "VolumeUse",
    "VolumesClient",
    "Yard",
]
