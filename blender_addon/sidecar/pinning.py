# SPDX-License-Identifier: GPL-3.0-or-later
"""A server that is known by the fingerprint of its certificate, and by nothing else."""

from __future__ import annotations

import hashlib
import re
import socket
import ssl
from typing import Any

_TIMEOUT_SECONDS = 10.0


class NotTrusted(Exception):
    """The server is not the one that was meant, or cannot be looked at; the message is one line."""


def pinned(address: str, fingerprint: str) -> tuple[bytes, str]:
    """The certificate of a server as PEM, once its fingerprint is right, and a name in it.

    A channel that trusts this certificate alone reaches this server alone; which name the
    certificate has is then beside the point, but the channel must be told it.

    Args:
        address: HOST:PORT.
        fingerprint: ``sha256:`` and 64 hexadecimal digits, of the certificate in DER.

    Raises:
        NotTrusted: the fingerprint is none, or of another certificate; or nothing answers.
    """
    wanted = re.sub(r"^sha256:|[:\s]", "", fingerprint.strip().lower())
    if not re.fullmatch(r"[0-9a-f]{64}", wanted):
        raise NotTrusted(
            "a fingerprint is sha256: and 64 hexadecimal digits, as `dreamsmith certificate` "
            f"prints it, not {fingerprint!r}"
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # For looking at a certificate; nothing is sent over such a connection.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with _connect(address, context) as connection:
            der = connection.getpeercert(binary_form=True) or b""
        found = hashlib.sha256(der).hexdigest()
        if found != wanted:
            raise NotTrusted(
                f"the server at {address} has another certificate (sha256:{found}) than the one "
                "with your fingerprint: ask whoever runs it whether it was renewed"
            )
        pem = ssl.DER_cert_to_PEM_cert(der)
        # What stands in a certificate is told of one that is trusted only.
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.load_verify_locations(cadata=pem)
        with _connect(address, context) as connection:
            about: Any = connection.getpeercert() or {}
    except ssl.SSLCertVerificationError as error:
        raise NotTrusted(
            f"the certificate of the server at {address} cannot be used ({error.verify_message}): "
            "ask whoever runs it to renew it"
        ) from None
    except ssl.SSLError:
        raise NotTrusted(f"the server at {address} does not speak TLS") from None
    except (OSError, ValueError):
        raise NotTrusted(
            f"no Dreamsmith server answers at {address}: is it running, and is the address right?"
        ) from None
    names = about.get("subjectAltName", ())
    return pem.encode(), str(names[0][1]) if names else _split(address)[0]


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _connect(address: str, context: ssl.SSLContext) -> ssl.SSLSocket:
    context.set_alpn_protocols(["h2"])
    host, port = _split(address)
    plain = socket.create_connection((host, port), timeout=_TIMEOUT_SECONDS)
    try:
        return context.wrap_socket(plain, server_hostname=host)
    except BaseException:
        plain.close()
        raise
