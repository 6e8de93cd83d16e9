# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cloud image as it is declared, what counts of it, and how it is fetched."""

from __future__ import annotations

import datetime
import hashlib
import http.server
import ipaddress
import json
import ssl
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from stockyard import (
    CloudImage,
    DeadlineExceeded,
    ImageError,
    ImageSpec,
    InvalidInput,
    TemplateSpec,
    Unsupported,
    Yard,
)
from stockyard.clock import Deadline
from stockyard.guest import cloud
from stockyard.guest.recipe import declared_digest, recipe
from stockyard.model import codec
from stockyard.model.image import without_secrets
from stockyard.providers.common.cloud_images import fetch
from stockyard.providers.vsphere.provider import VsphereProvider
from stockyard.resources.templates.cloud_image import resolved

CONTENT = b"QFI\xfb" + b"x" * (3 << 20)
SUM = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
LONG = f"sha512:{hashlib.sha512(CONTENT).hexdigest()}"
ZERO = "sha256:" + "0" * 64


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "image.qcow2"
    path.write_bytes(CONTENT)
    return path


@pytest.mark.parametrize(
    "wrong",
    [
        ("image.qcow2",),
        ("~/image.qcow2",),
        ("",),
        ("http://h/i", SUM),
        ("ftp://h/i", SUM),
        ("file:///i",),
        ("https://h/i",),
        ("https://h/i j", SUM),
        ("/i\n",),
        ("/i", "md5:" + "0" * 32),
        ("/i", "0" * 64),
        ("/i", "sha256:"),
        ("/i", SUM.upper()),
        ("/i", SUM + "0"),
        ("/i", LONG.replace("512", "256")),
        ("/i", SUM + "\n"),
    ],
)
def test_file_that_is_no_cloud_image_is_refused(wrong: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInput) as refused:
        CloudImage(*wrong)
    assert refused.value.remedy


def test_a_name_in_messages_has_no_password() -> None:
    assert CloudImage("https://me:secret@h/i", SUM).title == "cloud image https://h/i"


def test_cloud_image_excludes_other_sources() -> None:
    with pytest.raises(InvalidInput, match="exclude each other"):
        ImageSpec(source="vm", cloud_image=CloudImage("/i"))


def spec(image: CloudImage, **more: object) -> TemplateSpec:
    return TemplateSpec("cloudy", image=replace(ImageSpec(cloud_image=image), **more))  # type: ignore[arg-type]


def test_its_content_counts_and_not_its_place(file: Path) -> None:
    declared = resolved(spec(CloudImage(str(file))))
    assert declared.build.cloud_image == CloudImage(str(file), SUM)
    assert resolved(declared) is declared
    assert declared_digest(declared) == declared_digest(
        resolved(spec(CloudImage("https://h/i", SUM)))
    )
    assert declared_digest(declared) != declared_digest(
        resolved(spec(CloudImage("https://h/i", ZERO)))
    )
    assert declared_digest(declared) != declared_digest(TemplateSpec("cloudy"))
    with pytest.raises(InvalidInput, match="cannot be read"):
        resolved(spec(CloudImage(str(file) + "x")))


def test_templates_without_a_cloud_image_keep_their_digest() -> None:
    # Generations are named by it: a change here rebuilds each existing template.
    for built in (recipe(ImageSpec()), TemplateSpec("x").build):
        assert "cloud_image" not in codec.to_dict(built)
    assert "cloud_image" not in codec.to_dict(
        without_secrets(resolved(spec(CloudImage("/i", SUM))).build)
    )


def test_recipe_of_a_cloud_image_has_cloud_init_files_and_no_kernel() -> None:
    image_recipe = recipe(
        resolved(spec(CloudImage("/i", SUM), suite="trixie", packages=("git",))).image
    )
    assert image_recipe.cloud_image == SUM
    assert {"docker.io", "git"} <= set(image_recipe.packages)
    assert not [name for name in image_recipe.packages if name.startswith(("linux-", "initramfs"))]
    assert image_recipe.files["/etc/cloud/cloud-init.disabled"].text == ""
    assert image_recipe.files["/etc/systemd/system/systemd-networkd.service"].text == "/dev/null"
    head, _line, config = image_recipe.early["/user-data"].text.partition("\n")
    assert head == "#cloud-config"
    assert json.loads(config)["users"] == []
    assert "debian trixie" in image_recipe.early["/first-boot"].text
    assert all(path.count("/") == 1 for path in image_recipe.early), (
        "they lie at the top of the medium"
    )
    assert len(cloud.RESULTS) <= 20, "QEMU cuts a serial there"


def test_memory_provider_accepts_a_cloud_image(tmp_path: Path, file: Path) -> None:
    with Yard(f"memory://{tmp_path}/yard.json", pki_dir=str(tmp_path / "pki")) as yard:
        assert yard.templates.apply(spec(CloudImage(str(file))), check=True).changed
        assert yard.templates.apply(spec(CloudImage(str(file)))).changed
        assert not yard.templates.apply(spec(CloudImage(str(file), SUM))).changed
        file.write_bytes(b"another")
        assert yard.templates.apply(spec(CloudImage(str(file))), check=True).changed


def test_vsphere_refuses_a_cloud_image() -> None:
    declared = resolved(spec(CloudImage("/i", SUM)))
    provider = object.__new__(VsphereProvider)
    provider.uri = "vsphere://vc/dc/cluster"
    with pytest.raises(Unsupported, match="a template is a clone") as refused:
        provider.ensure_image(
            recipe(declared.image), declared.build, lambda _stage: None, Deadline(60)
        )
    assert "source" in refused.value.remedy


@pytest.mark.parametrize("checksum", [SUM, LONG])
def test_a_file_is_copied_and_held_against_its_checksum(
    file: Path, tmp_path: Path, checksum: str
) -> None:
    fetch(CloudImage(str(file), checksum), tmp_path / "copy", "", Deadline(60))
    assert (tmp_path / "copy").read_bytes() == CONTENT


def test_another_image_is_refused(file: Path, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=", not the declared") as refused:
        fetch(CloudImage(str(file), ZERO), tmp_path / "copy", "", Deadline(60))
    assert SUM.removeprefix("sha256:") in str(refused.value)
    with pytest.raises(ImageError, match="the image cannot be fetched"):
        fetch(CloudImage(str(file) + "x", ZERO), tmp_path / "copy", "", Deadline(60))
    with pytest.raises(DeadlineExceeded):
        fetch(CloudImage(str(file), SUM), tmp_path / "copy", "", Deadline(0))


class _Site(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        content = CONTENT if self.path.endswith("image.qcow2") else CONTENT[:-1] + b"y"
        self.send_response(200 if self.path != "/none" else 404)
        # One that ends too soon says that it has more.
        self.send_header("Content-Length", str(len(content) + ("short" in self.path)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A caller that does not trust it hangs up."""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A web site with TLS, of a certificate that this process trusts."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name, day = (
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "site")]),
        datetime.timedelta(days=1),
    )
    builder = (
        x509.CertificateBuilder(
            name, name, key.public_key(), x509.random_serial_number(), now - day, now + day
        )
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    path = tmp_path / "site.pem"
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    path.write_bytes(builder.public_bytes(pem) + secret)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    for proxy in (
        "http_proxy",
        "https_proxy",
        "HTTPS_PROXY",
        "HTTP_PROXY",
        "ALL_PROXY",
        "all_proxy",
    ):
        monkeypatch.delenv(proxy, raising=False)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    server = _Server(("127.0.0.1", 0), _Site)
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"https://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_download_is_held_against_its_checksum(site: str, tmp_path: Path) -> None:
    fetch(CloudImage(f"{site}/image.qcow2", LONG), tmp_path / "copy", "", Deadline(60))
    assert (tmp_path / "copy").read_bytes() == CONTENT
    with pytest.raises(ImageError, match=r"sha512 is [0-9a-f]{128}, not the declared"):
        fetch(CloudImage(f"{site}/other.qcow2", LONG), tmp_path / "copy", "", Deadline(60))


@pytest.mark.parametrize("path", ["none", "short/image.qcow2"])
def test_a_download_that_fails(site: str, tmp_path: Path, path: str) -> None:
    with pytest.raises(ImageError) as failed:
        fetch(CloudImage(f"{site}/{path}", ZERO), tmp_path / "copy", "", Deadline(60))
    assert failed.value.remedy


def test_a_site_that_is_not_trusted_is_not_believed(
    site: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(ImageError, match="certificate"):
        fetch(CloudImage(f"{site}/image.qcow2", SUM), tmp_path / "copy", "", Deadline(60))
