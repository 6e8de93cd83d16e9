# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Failures of single hosts: an unforeseen error names its host, and the work on other hosts
continues.
"""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from ..errors import StockyardError, UnforeseenError
from .context import Context

P = ParamSpec("P")
R = TypeVar("R")


class Named(Protocol):
    """A host, its record, or a request for it."""

    @property
    def name(self) -> str:
        """Return the host's name."""


S = TypeVar("S", bound=Named)


@contextmanager
def of_host(title: str) -> Iterator[None]:
    """Turn an unforeseen exception of the work on one host into that host's failure.

    :param title: the host's name in messages.
    :raises UnforeseenError: for any exception but those of the SDK, which name their object
        themselves.
    """
    try:
        yield
    except StockyardError:
        raise
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        raise UnforeseenError(
            "an unexpected error ended the work on the host.",
            name=title,
            cause=f"{type(error).__name__}: {error} ({Path(frame.filename).name}, line "
            f"{frame.lineno})",
            remedy="report this message as a fault of stockyard; other hosts are not affected",
        ) from error


def host_work(
    work: Callable[Concatenate[Context, S, P], R],
) -> Callable[Concatenate[Context, S, P], R]:
    """Decorate work on one host, which is its second argument: see :func:`of_host`."""

    @functools.wraps(work)
    def guarded(ctx: Context, subject: S, /, *arguments: P.args, **options: P.kwargs) -> R:
        with of_host(f"host {subject.name}"):
            return work(ctx, subject, *arguments, **options)

    return guarded
