# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import socket
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from stockyard.errors import Conflict, ControllerError, InvalidInput, NotFound
from stockyard.integrations.jenkins import AgentSpec, Controller, config
from stockyard.model.host import Identity
from stockyard.pki.authority import Authority
from tests.helpers.samples import HOST_KEY, host_record
from tests.jenkins.controller import BUILT_IN, PASSWORD, TOKEN, USER, Jenkins, serving

RECORD = host_record(identity=Identity("m" * 32, HOST_KEY, "1f", 2e9))
FORM = config.form(
    "ci-1", config.desired_config(AgentSpec("ci", credentials_id="key", labels=("docker",)), RECORD)
)


def test_node_is_created_held_released_and_removed(controller: Controller) -> None:
    controller.create("ci-1", FORM)
    controller.hold("ci-1", "for tea & biscuits")
    controller.hold("ci-1", "again")
    (node,) = (n for n in controller.nodes() if n.name == "ci-1")
    assert (node.held, node.reason, node.labels, node.idle) == (True, "again", ("docker",), True)
    controller.resume("ci-1")
    assert not next(n for n in controller.nodes() if n.name == "ci-1").held
    controller.delete("ci-1")
    assert [n.name for n in controller.nodes()] == [BUILT_IN]


def test_a_name_that_is_taken_is_a_conflict(controller: Controller) -> None:
    controller.create("ci-1", FORM)
    with pytest.raises(Conflict):
        controller.create("ci-1", FORM)


def test_a_password_brings_a_crumb_and_a_token_needs_none(jenkins: Jenkins) -> None:
    Controller(jenkins.url, USER, TOKEN).create("ci-1", FORM)
    assert "GET /crumbIssuer/api/json" not in jenkins.requests
    second_controller = Controller(jenkins.url, USER, PASSWORD)
    second_controller.hold("ci-1", "x")
    second_controller.delete("ci-1")
    assert jenkins.requests.count("GET /crumbIssuer/api/json") == 1
    assert jenkins.names() == []


@pytest.mark.parametrize(("user", "token"), [("", ""), (USER, "wrong"), (USER, "")])
def test_missing_permission_is_reported_without_the_token(
    jenkins: Jenkins, user: str, token: str
) -> None:
    with pytest.raises(
        ControllerError, match="the controller does not allow this user to access"
    ) as error:
        Controller(jenkins.url, user, token).nodes()
    assert "wrong" not in str(error.value)
    with pytest.raises(ControllerError, match="the controller does not allow this user to access"):
        Controller(jenkins.url, user, token).hold("x", "y")


def test_a_controller_behind_a_path_is_found_and_another_is_not() -> None:
    with serving(path="/jenkins") as jenkins:
        assert len(Controller(f"{jenkins.url}/", USER, TOKEN).nodes()) == 1
        with pytest.raises(NotFound, match="URL"):
            Controller(jenkins.url.removesuffix("/jenkins"), USER, TOKEN).nodes()


def test_missing_node_is_not_found(controller: Controller) -> None:
    for act in (controller.delete, controller.config, controller.secret, controller.resume):
        with pytest.raises(NotFound):
            act("no/../such node")


def test_a_name_cannot_lead_anywhere_else(jenkins: Jenkins, controller: Controller) -> None:
    with pytest.raises(NotFound):
        controller.delete("../../quietDown?x=")
    assert jenkins.requests == ["POST /computer/..%2F..%2FquietDown%3Fx%3D/doDelete"]


def test_the_secret_is_that_of_the_name(jenkins: Jenkins, controller: Controller) -> None:
    controller.create("ci-1", FORM)
    assert controller.secret("ci-1") == jenkins.secret("ci-1")


@pytest.mark.parametrize(
    "url", ["", "jenkins", "ftp://x", "http://", "http://u:p@x", "http://x:99999", "http://x\n"]
)
def test_invalid_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput):
        Controller(url)


def test_unreadable_certificates_are_named() -> None:
    with pytest.raises(InvalidInput, match=r"/nowhere\.pem"):
        Controller("https://jenkins.example", ca_path="/nowhere.pem")


@pytest.mark.parametrize(
    "body", ["", "[]", "{}", '{"computer":[{}]}', '{"computer":[3]}', "[" * 99999]
)
def test_an_answer_without_sense_is_an_error(
    jenkins: Jenkins, controller: Controller, body: str
) -> None:
    jenkins.broken["GET /computer/api/json"] = (200, body)
    with pytest.raises(ControllerError, match="is not valid"):
        controller.nodes()


def test_error_page_is_reported_without_markup(jenkins: Jenkins, controller: Controller) -> None:
    jenkins.broken["POST .*"] = (500, "Disk <b>full</b>")
    with pytest.raises(ControllerError, match=r"with status 500\. Cause: Error Disk full") as error:
        controller.create("ci-1", FORM)
    assert "{" not in str(error.value)


def test_redirect_to_the_login_page_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, controller: Controller, jenkins: Jenkins
) -> None:
    from tests.jenkins import controller as fake

    monkeypatch.setattr(
        fake.Handler,
        "_answer",
        lambda self: self._say(302, b"", "text/html", {"Location": "/login?from=x"}),
    )
    for act in (controller.nodes, lambda: controller.delete("x")):
        with pytest.raises(
            ControllerError, match="the controller does not allow this user to access"
        ):
            act()


def test_a_controller_that_is_off_does_not_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ControllerError, match="does not answer"):
        Controller(f"http://127.0.0.1:{port}").nodes()


def test_only_a_controller_whose_certificate_is_believed_gets_the_token(
    jenkins: Jenkins, tmp_path: Path
) -> None:
    signer, key = (
        Authority.create("jenkins", datetime.now(UTC)),
        ec.generate_private_key(ec.SECP256R1()),
    )
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .sign(key, hashes.SHA256())
    )
    pem = request.public_bytes(serialization.Encoding.PEM).decode()
    form = (
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    certificate = signer.sign_server(pem, "jenkins", "127.0.0.1", datetime.now(UTC)).pem
    (tmp_path / "server.pem").write_text(certificate + key.private_bytes(*form).decode())
    (tmp_path / "ca.pem").write_text(signer.pem())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    jenkins.socket = context.wrap_socket(jenkins.socket, server_side=True)
    url = jenkins.url.replace("http:", "https:")
    assert len(Controller(url, USER, TOKEN, str(tmp_path / "ca.pem")).nodes()) == 1
    count = len(jenkins.requests)
    with pytest.raises(ControllerError, match="certificate"):
        Controller(url, USER, TOKEN).nodes()
    assert len(jenkins.requests) == count
