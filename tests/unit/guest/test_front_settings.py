# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings of the TLS front: without a valid client certificate, no byte reaches dockerd."""

from __future__ import annotations

import configparser

from stockyard.guest.texts import STUNNEL_CONF


def test_front_requires_certificates_of_the_authority_that_are_not_revoked() -> None:
    parser = configparser.ConfigParser(allow_no_value=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(f"[global]\n{STUNNEL_CONF}")
    assert parser.sections() == ["global", "docker"]
    front = parser["docker"]
    assert front["requireCert"] == "yes"
    assert front["verifyChain"] == "yes"
    assert front["CAfile"] == "/var/lib/stockyard/tls/ca.pem"
    assert front["CRLfile"] == "/var/lib/stockyard/tls/crl.pem"
    assert front["sslVersionMin"] == "TLSv1.2"
    # A resumed session would skip the list of revoked certificates.
    assert front["sessionResume"] == "no"
    assert front["connect"] == "/run/docker.sock"
    assert "verify" not in front
