# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guest images on disk: each digest is built once, stored, and never changed."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...clock import Deadline
from ...errors import ImageError
from ...files import move
from ...guest.archive import write_tar
from ...hypervisor.provider import Progress
from ...model import codec, untrusted
from ...model.image import BuildOptions
from ...model.recipe import Recipe
from ..common import debian
from ..common.cloud_images import fetch
from ..common.preloaded import write_items
from ..common.run import run
from . import cloud
from .store import Store

# Stage two runs as root of a user namespace, so that owners and set-uid bits are correct.
REMOVE = 300.0
# An image of packages is a file system without partitions.
WHOLE_DISK = "/dev/vda"
IN_NAMESPACE = ("unshare", "--map-root-user", "--map-auto", "--mount")
ASSEMBLE = """
# Debian gives ordinary users no sbin.
export PATH="$PATH:/usr/sbin:/sbin"
mkdir root
tar -xpf "$1" -C root --exclude='./dev/*'
tar -xpf files.tar -C root --keep-directory-symlink
if [ -d preload ]; then mkdir -p root/var/lib/stockyard && cp -r preload root/var/lib/stockyard/; fi
rm -f root/etc/ssh/ssh_host_* root/etc/docker/key.json root/var/lib/dbus/machine-id
# The profiles of the package itself are for desktop programs, and compiling them takes a third of
# the boot. Those of other packages stay, and Docker loads its own.
chroot root dpkg-query --listfiles apparmor | grep -x '/etc/apparmor.d/[^/]*' |
  while read -r profile; do
  if [ -f "root$profile" ]; then rm "root$profile"; fi
done
chroot root systemd-sysusers
chroot root systemctl --quiet disable ssh.service
chroot root systemctl --quiet enable ssh.socket
cp root/boot/vmlinuz-* vmlinuz
cp root/boot/initrd.img-* initrd.img
mkfs.ext4 -q -L root -d root -E lazy_itable_init=1,lazy_journal_init=1 disk.raw "$2"
rm -rf root
"""


@dataclass(frozen=True)
class Image:
    """A finished image: a disk, and the kernel and initramfs that boot it.

    :param root: the kernel's name for its root file system.
    """

    disk: Path
    kernel: Path
    initrd: Path
    root: str = WHOLE_DISK


class Images:
    """The images of one store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def path(self, digest: str) -> Image:
        """Return the paths of the parts of an image."""
        folder = self.store.images / digest
        root = str(self._facts(digest).get("root", WHOLE_DISK))
        return Image(folder / "disk.qcow2", folder / "vmlinuz", folder / "initrd.img", root)

    def resolve(
        self, recipe: Recipe, build: BuildOptions, deadline: Deadline
    ) -> tuple[str, dict[str, str]]:
        """Return the digest of the image that the recipe builds today, and its package versions."""
        with self._workshop() as work:
            package_versions = debian.versions(recipe, build, work, deadline, "image")
        return codec.digest({"recipe": recipe, "versions": package_versions}), package_versions

    def versions(self, digest: str) -> dict[str, str]:
        """Return the package versions in an image; empty if they are not on record."""
        try:
            return {
                str(name): str(version) for name, version in self._facts(digest)["versions"].items()
            }
        except (KeyError, AttributeError):
            return {}

    def _facts(self, digest: str) -> dict[str, Any]:
        """Return the record of an image; empty if the image has no readable record."""
        try:
            path = self.store.images / digest / "image.json"
            return untrusted.mapping(untrusted.parse(path.read_bytes()), "the record")
        except (OSError, untrusted.MalformedData):
            return {}

    def ensure(
        self, recipe: Recipe, build: BuildOptions, progress: Progress, deadline: Deadline
    ) -> str:
        """Build the image if it does not exist; return its digest."""
        progress("resolve package versions")
        digest, package_versions = self.resolve(recipe, build, deadline)
        with self.store.lock(f"image-{digest[:32]}", deadline):
            record = self.store.images / digest / "image.json"
            if not record.exists():
                self._build(digest, package_versions, recipe, build, progress, deadline)
            record.touch()
        return digest

    def prune(
        self,
        used: set[str],
        older_than: float,
        own: frozenset[str] = frozenset(),
        *,
        check: bool = False,
    ) -> list[str]:
        """Delete unused images, bases without an image, and the leftovers of killed builders.

        :param used: digests of the images to retain.
        :param older_than: seconds for which an image or a base is retained after it was last
            requested or built.
        :param own: images that are deleted at any age, with their bases.
        :param check: whether nothing is deleted.
        :return: the names of the deleted files.
        """
        images = {
            entry.name: entry
            for entry in self.store.images.iterdir()
            if (entry / "image.json").exists()
        }
        used |= {
            image_digest
            for image_digest, entry in images.items()
            if image_digest not in own and _age(entry / "image.json") < older_than
        }
        base_of = {
            image_digest: str(self._facts(image_digest).get("base") or "")
            for image_digest in images
        }
        used_bases = {base_of[image_digest] for image_digest in used if image_digest in images}
        own_bases = {base_of[image_digest] for image_digest in own if image_digest in images}
        bases = {entry.name: entry for entry in self.store.images.glob("base-*.*")}
        # An image whose record cannot be read may be built from any base.
        used_bases |= {
            name
            for name, entry in bases.items()
            if "" in used_bases or (name not in own_bases and _age(entry) < older_than)
        }
        unused_paths = [
            entry
            for name, entry in {**images, **bases}.items()
            if name not in used and name not in used_bases
        ]
        for path in () if check else unused_paths:
            _remove(path)
        abandoned_paths = self.abandoned(0.0, remove=not check)
        return sorted(entry.name for entry in [*unused_paths, *abandoned_paths])

    def abandoned(self, older_than: float, *, remove: bool) -> list[Path]:
        """Return the working directories of killed builders.

        :param remove: delete them, too.
        """
        folders, current_time = sorted(self.store.images.glob("work-*")), time.time()
        abandoned_folders = [
            folder
            for folder in folders
            if not _alive(folder) and current_time - folder.lstat().st_mtime >= older_than
        ]
        for path in abandoned_folders if remove else ():
            _remove(path)
        return abandoned_folders

    def _build(
        self,
        digest: str,
        package_versions: dict[str, str],
        recipe: Recipe,
        build: BuildOptions,
        progress: Progress,
        deadline: Deadline,
    ) -> None:
        name = f"image {digest[:12]}"
        build_parts = self._of_cloud_image if recipe.cloud_image else self._of_packages
        with self._workshop() as work:
            base_facts = build_parts(
                package_versions, recipe, build, work, progress, deadline, name
            )
            facts = {
                "digest": digest,
                "suite": recipe.suite,
                **base_facts,
                "versions": package_versions,
            }
            (work / "image.json").write_text(json.dumps(facts))
            self.publish(work, digest)

    def _of_packages(
        self,
        package_versions: dict[str, str],
        recipe: Recipe,
        build: BuildOptions,
        work: Path,
        progress: Progress,
        deadline: Deadline,
        name: str,
    ) -> dict[str, str]:
        base = self._base(package_versions, recipe, build, work, progress, deadline, name)
        progress("assemble the disk image")
        write_tar(work / "files.tar", recipe.files)
        if recipe.preload:
            progress("bring what is preloaded")
            write_items(build.preload, work / "preload", deadline)
        assemble = [*IN_NAMESPACE, "sh", "-euc", ASSEMBLE, "sh", str(base), f"{recipe.disk_gib}G"]
        run(assemble, deadline, name=name, error=ImageError, cwd=work)
        convert = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", "disk.raw", "disk.qcow2"]
        run(convert, deadline, name=name, error=ImageError, cwd=work)
        return {"base": base.name}

    def _of_cloud_image(
        self,
        package_versions: dict[str, str],
        recipe: Recipe,
        build: BuildOptions,
        work: Path,
        progress: Progress,
        deadline: Deadline,
        name: str,
    ) -> dict[str, str]:
        progress("fetch the cloud image")
        base = self._kept(recipe, build, work, deadline)
        cloud.check(base, recipe, deadline, name)
        progress(f"fetch {len(package_versions)} Debian packages")
        cloud.parcel(package_versions, recipe, build, work, deadline, name)
        progress("boot the cloud image")
        return {"base": base.name, "root": cloud.first_boot(base, recipe, work, deadline, name)}

    def _kept(self, recipe: Recipe, build: BuildOptions, work: Path, deadline: Deadline) -> Path:
        """Return the stored original of the cloud image, which is fetched only once."""
        cloud_image = build.cloud_image
        if cloud_image is None or cloud_image.checksum != recipe.cloud_image:
            raise ImageError(
                "the location of the cloud image is not known.", name=recipe.cloud_image
            )
        key = f"base-{codec.digest(cloud_image.checksum)[:32]}"
        base_path = self.store.images / f"{key}.qcow2"
        with self.store.lock(key, deadline):
            if not base_path.exists():
                fetch(cloud_image, work / "cloud.qcow2", build.proxy, deadline)
                (work / "cloud.qcow2").chmod(0o400)
                move(work / "cloud.qcow2", base_path)
        return base_path

    @contextmanager
    def receiving(self, digest: str, deadline: Deadline) -> Iterator[Path | None]:
        """Lock an image, and create a directory for its parts; ``None`` if the image exists."""
        with self.store.lock(f"image-{digest[:32]}", deadline):
            record = self.store.images / digest / "image.json"
            if record.exists():
                record.touch()
                yield None
                return
            with self._workshop() as work:
                yield work

    def publish(self, work: Path, digest: str) -> None:
        """Move the finished parts to their final path; the directory appears whole or not at
        all.
        """
        folder = work / "done"
        folder.mkdir()
        for part in ("disk.qcow2", "vmlinuz", "initrd.img", "image.json"):
            (work / part).chmod(0o400)
            (work / part).rename(folder / part)
        move(folder, self.store.images / digest)

    def _base(
        self,
        package_versions: dict[str, str],
        recipe: Recipe,
        build: BuildOptions,
        work: Path,
        progress: Progress,
        deadline: Deadline,
        name: str,
    ) -> Path:
        """Return the stored archive of the packages alone.

        Recipes that differ only in files share it.
        """
        key = codec.digest(
            {
                "suite": recipe.suite,
                "packages": recipe.packages,
                "early": recipe.early,
                "versions": package_versions,
            }
        )
        base_path = self.store.images / f"base-{key[:32]}.tar"
        with self.store.lock(f"base-{key[:32]}", deadline):
            if not base_path.exists():
                progress(f"install {len(package_versions)} Debian packages")
                (work / "base").mkdir()
                archive = debian.bootstrap(recipe, build, work / "base", deadline, name)
                move(archive, base_path)
        return base_path

    @contextmanager
    def _workshop(self) -> Iterator[Path]:
        """Create a directory for unfinished files, and delete it when the block ends for any
        reason.
        """
        work = Path(tempfile.mkdtemp(prefix=f"work-{os.getpid()}-", dir=self.store.images))
        os.chmod(work, 0o755)  # noqa: S103  # mapped users enter it; the store around it is 0700
        try:
            yield work
        finally:
            _remove(work)


def _remove(path: Path) -> None:
    """Delete a file or a directory, including a tree that mapped users own."""
    if not path.is_dir():
        path.unlink()
    elif (path / "root").exists():
        run([*IN_NAMESPACE, "rm", "-rf", str(path)], Deadline(REMOVE), name=f"directory {path}")
    else:
        shutil.rmtree(path)


def _age(path: Path) -> float:
    return time.time() - path.stat().st_mtime


def _alive(work: Path) -> bool:
    """Return whether the builder that created a directory still runs."""
    return Path("/proc", work.name.split("-")[1]).exists()
