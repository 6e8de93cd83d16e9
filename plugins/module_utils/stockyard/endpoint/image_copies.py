# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies of images between machines, without a file in between."""

from __future__ import annotations

import asyncio
import tarfile
from collections.abc import Sequence
from contextlib import aclosing
from http import HTTPStatus
from urllib.parse import quote

from ..guest.security.reader.grammar import HEAD_END, LINE_END, Refusal
from .image_archives import without_names
from .lines import Lines, payload, read_answer, send_call

# Seconds for a copy.
PATIENCE = 3600.0
# The longest answer of Docker to a load, in bytes.
LONGEST_ANSWER = 1 << 20


async def copy_images(
    lines: Lines, origin: str, destination: str, images: Sequence[str], *, keep_names: bool
) -> None:
    """Copy images from one machine to another one.

    :param images: names or ids.
    :param keep_names: whether the names are copied too. They are the choice of the origin, which
        could give the name of another image of the destination.
    :raises Refusal: if one of the machines fails.
    """
    query = "&".join(f"names={quote(image)}" for image in images)
    source, target = await lines.take(origin), await lines.take(destination)
    try:
        async with asyncio.timeout(PATIENCE):
            answer, _headers = await send_call(source, "GET", f"/images/get?{query}")
            archive = payload(source, answer.body, None)
            head = (
                "POST /images/load?quiet=1 HTTP/1.1",
                "Host: docker",
                "Content-Type: application/x-tar",
                "Transfer-Encoding: chunked",
            )
            await target.send(LINE_END.join(map(str.encode, head)) + HEAD_END)
            if not keep_names:
                archive = without_names(archive, images)
            async with aclosing(archive) as blocks:
                async for block in blocks:
                    await target.send(b"%x\r\n%s\r\n" % (len(block), block))
            await target.send(b"0\r\n\r\n")
            loaded, _headers = await read_answer(target, "POST")
            text = b"".join([block async for block in payload(target, loaded.body, LONGEST_ANSWER)])
    except (OSError, EOFError, ValueError, tarfile.TarError, asyncio.LimitOverrunError) as error:
        raise Refusal(
            "The image could not be copied between the image host and a machine.",
            HTTPStatus.BAD_GATEWAY,
        ) from error
    finally:
        source.abort()
        target.abort()
    if loaded.status != HTTPStatus.OK or b'"error"' in text:
        raise Refusal(
            f"Docker refused the image: {text.decode(errors='replace').strip()}",
            HTTPStatus.INTERNAL_SERVER_ERROR,
        )
