# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Failures of the hypervisor, as answers in Docker's form."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

from ..errors import (
    Conflict,
    InvalidInput,
    NotFound,
    OperationRefused,
    StockyardError,
    Unsupported,
)
from ..guest.security.reader.grammar import Refusal


@contextmanager
def explained() -> Iterator[None]:
    """Turn errors of the hypervisor into refusals in Docker's form."""
    try:
        yield
    except NotFound as error:
        raise Refusal(str(error), HTTPStatus.NOT_FOUND) from error
    except (Conflict, OperationRefused) as error:
        raise Refusal(str(error), HTTPStatus.CONFLICT) from error
    except (InvalidInput, Unsupported) as error:
        raise Refusal(str(error), HTTPStatus.BAD_REQUEST) from error
    except StockyardError as error:
        raise Refusal(str(error), HTTPStatus.INTERNAL_SERVER_ERROR) from error
