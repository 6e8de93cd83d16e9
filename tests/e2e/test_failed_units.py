# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A unit that gives up ends the wait for it long before the deadline, and the error holds the
unit's last words.
"""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from stockyard import GuestError, SingleSpec, TemplateInfo, Yard
from stockyard.model import daemon_json

from .conftest import TEMPLATE, ssh

pytestmark = [pytest.mark.real, pytest.mark.full]
# Only dockerd of the guest knows that it has no such setting.
REFUSED = '{"iccc": false}\n'
WORDS = "docker.service failed: .*iccc"


def test_template_whose_docker_refuses_its_settings_fails_with_the_words_of_dockerd(
    yard: Yard, template: TemplateInfo
) -> None:
    spec = replace(
        TEMPLATE, name="refused", image=replace(TEMPLATE.image, files={daemon_json.PATH: REFUSED})
    )
    begin = time.monotonic()
    with pytest.raises(GuestError, match=WORDS) as caught:
        yard.templates.apply(spec, timeout=1800)
    print(f"after {time.monotonic() - begin:.0f} s: {caught.value}")
    assert time.monotonic() - begin < 900
    assert yard.templates.list(name="refused") == ()


def test_host_whose_docker_does_not_start_after_a_boot_fails_with_the_words_of_dockerd(
    yard: Yard, template: TemplateInfo
) -> None:
    sample = SingleSpec("sample", "docker")
    (host,) = yard.hosts.apply(sample).objects
    try:
        ssh(host, f"echo '{REFUSED.strip()}' | sudo tee {daemon_json.PATH}; sync")
        begin = time.monotonic()
        with pytest.raises(GuestError, match=WORDS) as caught:
            yard.hosts.restart(sample, timeout=1800)
        print(f"after {time.monotonic() - begin:.0f} s: {caught.value}")
        assert time.monotonic() - begin < 900
    finally:
        yard.hosts.delete(sample.name)
