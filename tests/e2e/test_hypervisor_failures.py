# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The disk is full, or the whole hypervisor goes down. A private libvirt fails, so no other test is
affected.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from stockyard import TemplateInfo

from . import private_libvirt

pytestmark = pytest.mark.real


def test_full_disk_during_the_creation_of_a_host(template: TemplateInfo, tmp_path: Path) -> None:
    """Refused with cause and remedy, nothing stays, and with space again the same run makes it."""
    facts = private_libvirt.run(
        tmp_path,
        """
        limit(STORE / "hosts", "64k")
        with open_yard() as yard:
            try:
                yard.hosts.apply(SingleSpec("sample", "docker"))
                error = ""
            except StockyardError as caught:
                error = f"{type(caught).__name__}: {caught}"
            files = [path.name for path in (STORE / "hosts").iterdir()]
            left = [host.name for host in yard.hosts.list()], files
            limit(STORE / "hosts", "2g", remount=True)
            ready = yard.hosts.apply(SingleSpec("sample", "docker")).objects[0].ready
            print(json.dumps({"error": error, "left": left, "ready": ready}))
        """,
    )
    assert facts["error"].startswith("OutOfSpace: host sample"), facts
    assert "free space" in facts["error"]
    assert facts["left"] == [[], []]
    assert facts["ready"]


def test_no_space_while_a_host_runs(template: TemplateInfo, tmp_path: Path) -> None:
    """QEMU pauses the guest; it is not called ready; with space again it goes on and has lost
    nothing.
    """
    facts = private_libvirt.run(
        tmp_path,
        """
        limit(STORE / "hosts", "60m")
        with open_yard() as yard:
            host = yard.hosts.apply(SingleSpec("sample", "docker")).objects[0]
            fill = "dd if=/dev/urandom of=big bs=1M count=80 2>&1; sync; cksum big"
            filling = ThreadPoolExecutor().submit(ssh, host, fill, timeout=300)
            end = time.monotonic() + 120
            while yard.hosts.list()[0].state == "running" and time.monotonic() < end:
                time.sleep(0.5)
            full = yard.hosts.list()[0]
            limit(STORE / "hosts", "2g", remount=True)
            again = yard.hosts.apply(SingleSpec("sample", "docker"))
            said = filling.result().stdout
            check = ssh(again.objects[0], "cksum big; wc -c < big").stdout
            print(json.dumps({
                "state": full.state, "was_ready": full.ready,
                "verbs": [a.verb for a in again.plan.actions],
                "ready": again.objects[0].ready, "said": said, "check": check,
            }))
        """,
    )
    assert (facts["state"], facts["was_ready"]) == ("paused", False), facts
    assert facts["verbs"] == ["start"]
    assert facts["ready"]
    # The guest went on where it was: the file that it was writing is whole.
    assert facts["check"].splitlines()[0] in facts["said"]
    assert facts["check"].splitlines()[1] == str(80 << 20)


@pytest.mark.full
def test_no_space_for_the_machine_of_a_container(template: TemplateInfo, tmp_path: Path) -> None:
    facts = private_libvirt.run(
        tmp_path,
        """
        from bench.docker_run import run
        from bench.endpoint import serving
        from contextlib import suppress
        from stockyard import EndpointSpec

        image = (
            "mkdir -p r/bin; cp /bin/busybox r/bin/; ln -s busybox r/bin/echo; "
            "tar -C r -c . | sudo docker import - busybox:latest"
        )
        # Branches and hosts are in one file system: files are moved between them.
        complete = Path(os.environ["PRIVATE_HOME"], "store")
        complete.mkdir()
        bind(STORE, complete)
        limit(STORE, "1200m")
        for name in ("images", "templates"):
            (STORE / name).mkdir()
            bind(complete / name, STORE / name)
        session = Path(os.environ["PRIVATE_HOME"], "session.json").read_text()
        (STORE / "session.json").write_text(session)
        with open_yard() as yard:
            spec = EndpointSpec("doors", "images", TEMPLATE.name, socket="/run/unused.sock")
            yard.endpoints.apply(spec)
            made = ssh(yard.hosts.get("images"), image)
            assert made.returncode == 0, made.stderr
            with serving(yard, spec) as connect:
                run(connect, "busybox", "echo", "hi")
                while len(yard.hosts.list()) > 1:
                    time.sleep(0.2)
                filler = STORE / "hosts" / "filler"
                with filler.open("wb", buffering=0) as file, suppress(OSError):
                    while file.write(bytes(4096)):
                        pass
                try:
                    run(connect, "busybox", "echo", "hi")
                    error = ""
                except ConnectionError as caught:
                    error = str(caught)
                folders = [path.name for path in (STORE / "hosts").iterdir() if path.is_dir()]
                left = len(yard.hosts.list()), len(folders)
                filler.unlink()
                yard.endpoints.apply(spec)
                again = run(connect, "busybox", "echo", "hi").ends
            yard.endpoints.delete("doors")
            print(json.dumps({"error": error, "left": left, "again": len(again)}))
        """,
    )
    assert "500" in facts["error"], facts
    assert "free space" in facts["error"], facts
    assert facts["left"] == [1, 1]
    assert facts["again"] == 6


def test_no_space_while_an_image_is_built(template: TemplateInfo, tmp_path: Path) -> None:
    """No libvirt has to run for this."""
    facts = private_libvirt.run(
        tmp_path,
        """
        from stockyard import BuildOptions, ImageSpec
        from stockyard.clock import Deadline
        from stockyard.guest.recipe import recipe
        from stockyard.providers.libvirt.images import Images
        from stockyard.providers.libvirt.store import Store

        subordinate_ids()
        keep = Path(os.environ["PRIVATE_HOME"]) / "images"
        keep.mkdir()
        subprocess.run(["mount", "--bind", str(STORE / "images"), str(keep)], check=True)
        limit(STORE / "images", "100m")
        for path in keep.glob("base-*"):
            (STORE / "images" / path.name).symlink_to(path)
        wanted = recipe(ImageSpec(packages=TEMPLATE.image.packages, files={"/etc/new": "new"}))
        try:
            Images(Store(STORE)).ensure(wanted, BuildOptions(), lambda _line: None, Deadline(200))
            error = ""
        except StockyardError as caught:
            error = f"{type(caught).__name__}: {caught}"
        left = [p.name for p in (STORE / "images").iterdir() if not p.name.startswith("base-")]
        subprocess.run(["umount", str(keep)], check=True)
        print(json.dumps({"error": error, "left": left}))
        """,
        rooted=True,
    )
    assert facts["error"].startswith("OutOfSpace"), facts
    assert "free space" in facts["error"]
    assert facts["left"] == []


@pytest.mark.full
def test_hosts_continue_after_a_restart_of_the_hypervisor(
    template: TemplateInfo, tmp_path: Path
) -> None:
    """Every QEMU and the daemon are killed at once; one run brings all hosts back as they were."""
    facts = private_libvirt.run(
        tmp_path,
        """
        spec = FleetSpec("pair", "docker", count=2)
        with open_yard() as yard:
            before = yard.fleets.apply(spec).objects
        kill("libvirtd")
        for pid in qemus():
            os.kill(pid, signal.SIGKILL)
        while qemus():
            time.sleep(0.1)
        with open_yard() as yard:
            # The daemon starts with its last notes, and needs a moment to miss the processes.
            end = time.monotonic() + 20
            while any(h.ready for h in yard.hosts.list()) and time.monotonic() < end:
                time.sleep(0.2)
            down = [h.ready for h in yard.hosts.list()]
            again = yard.fleets.apply(spec)
            third = yard.fleets.apply(spec).changed
            yard.teardown()
        print(json.dumps({
            "before": [host.to_dict() for host in before], "down": down,
            "after": [host.to_dict() for host in again.objects],
            "verbs": [a.verb for a in again.plan.actions],
            "third": third,
        }))
        """,
    )
    assert facts["down"] == [False, False]
    assert facts["verbs"] == ["start", "start"]
    assert not facts["third"]
    for before, after in zip(facts["before"], facts["after"], strict=True):
        assert after["ready"]
        for key in ("uuid", "address", "mac", "identity", "created"):
            assert after[key] == before[key]
