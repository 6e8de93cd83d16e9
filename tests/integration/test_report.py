# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module and the playbook report over a memory hypervisor, and the page in a browser."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from stockyard import FleetSpec, TemplateSpec, Yard
from tests.helpers.clocks import BriskClock

from .conftest import Controller, task

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
HOSTILE = "<script>document.title='owned'</script>"


@pytest.fixture(scope="module")
def yard(controller: Controller) -> Controller:
    with Yard(
        controller.hypervisor,
        pki_dir=str(controller.home / ".config" / "stockyard"),
        clock=BriskClock(),
    ) as opened:
        opened.templates.apply(TemplateSpec("docker"))
        opened.fleets.apply(FleetSpec("web", "docker", count=3, labels={"note": HOSTILE}))
    (controller.home / "yard.yml").write_text("yard_fleets: []\n")
    return controller


def test_the_playbook_writes_both(yard: Controller) -> None:
    played = yard.run(
        "stockyard.container_hosts.report", "-e", "yard=yard.yml", "-e", "report_metrics=yard.prom"
    )
    assert played.returncode == 0, played.output
    assert "web-3" in (yard.home / "yard.html").read_text()
    families = {
        f.name: f for f in text_string_to_metric_families((yard.home / "yard.prom").read_text())
    }
    assert families["stockyard_fleet_hosts_ready"].samples[0].value == 3.0


def test_the_module(yard: Controller) -> None:
    file = yard.home / "again.prom"
    options = {"dest": str(file), "format": "metrics"}
    played = yard.play(
        [
            task("dry", "report", {"check_mode": True}, **options),
            {"name": "still none", "ansible.builtin.stat": {"path": str(file)}},
            task("written", "report", **options),
            task("again", "report", **options),
            task("nowhere", "report", dest="/nowhere/yard.html"),
        ]
    )
    assert [played[name]["changed"] for name in ("dry", "written", "again")] == [True, True, False]
    assert not played["still none"]["stat"]["exists"]
    assert played["written"]["figures"] == {
        "fleets": 1,
        "hosts": 3,
        "templates": 1,
        "leases": 0,
        "pools": 0,
        "volumes": 0,
        "strangers": 0,
    }
    assert "cannot be written" in played["nowhere"]["msg"]


def test_report_renders_in_a_browser(yard: Controller, tmp_path: Path) -> None:
    """The page as Chromium draws it, with its scripts on: none runs. The screenshot is kept under
    build.
    """
    browser = next((executable for name in BROWSERS if (executable := shutil.which(name))), None)
    if not browser:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    page = yard.home / "yard.html"
    with Yard(yard.hypervisor, pki_dir=str(yard.home / ".config" / "stockyard")) as opened:
        opened.report(page)
    picture = Path(__file__).parents[2] / "build" / "report.png"
    picture.parent.mkdir(exist_ok=True)
    picture.unlink(missing_ok=True)
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        f"--user-data-dir={tmp_path}",
    ]
    shot = [f"--screenshot={picture}", "--window-size=1400,1000"]
    messages = []
    for more in (shot, ["--dump-dom"]):
        result = subprocess.run(
            [browser, *flags, *more, page.as_uri()],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        messages.append(result.stdout)
    assert picture.stat().st_size > 10_000
    assert "<title>Yard stockyard</title>" in messages[-1]
