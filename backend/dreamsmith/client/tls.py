# SPDX-License-Identifier: Apache-2.0
"""How a client knows a server, and what to say where it does not."""

from __future__ import annotations

import hashlib
import re
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc

from dreamsmith.errors import InvalidRequest, ServerNotTrusted, ServerUnreachable

_TIMEOUT_SECONDS: Final = 10.0
_GREETING_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Tls:
    """How to know the server, and to be known by it.

    Attributes:
        authority: PEM file of the authority that signed the server's certificate; None for those
            that every system trusts.
        fingerprint: ``sha256:HEX`` of the server's certificate, which is then all that counts.
        certificate: PEM file of the client's own certificate, where the server wants one.
        key: PEM file of its key.
    """

    authority: Path | None = None
    fingerprint: str | None = None
    certificate: Path | None = None
    key: Path | None = None


def secured(
    host: str, port: int, tls: Tls, options: tuple[tuple[str, Any], ...]
) -> tuple[str, grpc.ChannelCredentials, tuple[tuple[str, Any], ...]]:
    """Target, credentials and options of a channel on which only the right server can answer.

    With a fingerprint the server is asked for its certificate first: once it has the right
    fingerprint, the channel trusts this certificate and no other.

    Raises:
        InvalidRequest: a file cannot be read, or the fingerprint is none.
        ServerNotTrusted: the server has another certificate.
        ServerUnreachable: it has a fingerprint, and nothing answers.
    """
    roots = _read(tls.authority, "--tls-ca")
    if tls.fingerprint is not None:
        pem, name = _pinned(host, port, tls.fingerprint)
        roots = pem.encode()
        # Which name the certificate has is beside the point: it is the right one.
        options = (*options, ("grpc.ssl_target_name_override", name))
    if (tls.certificate is None) is not (tls.key is None):
        raise InvalidRequest("tls", "--tls-certificate and --tls-key are given together")
    credentials = grpc.ssl_channel_credentials(
        root_certificates=roots,
        private_key=_read(tls.key, "--tls-key"),
        certificate_chain=_read(tls.certificate, "--tls-certificate"),
    )
    name = f"[{host}]" if ":" in host else host
    return f"{name}:{port}", credentials, options


def explain(server: str, host: str, port: int, tls: Tls | None) -> ServerNotTrusted | None:
    """Why a server that is there did not answer; None where it has nothing to do with TLS."""
    try:
        is_welcome = _greets(host, port, tls)
    except ssl.SSLCertVerificationError as error:
        return ServerNotTrusted(
            f"the server at {server} cannot be trusted ({error.verify_message}): give the "
            "authority that signed its certificate with --tls-ca, or the certificate's fingerprint "
            "with --fingerprint"
        )
    except ssl.SSLError:
        return ServerNotTrusted(f"the server at {server} does not speak TLS") if tls else None
    except OSError:
        return None
    if tls is None:
        return ServerNotTrusted(
            f"the server at {server} speaks TLS: say how to know it, with --tls-ca FILE or "
            "--fingerprint sha256:..."
        )
    if is_welcome:
        return None
    return ServerNotTrusted(
        f"the server at {server} wants a certificate that it knows: give yours with "
        "--tls-certificate and --tls-key"
    )


def _greets(host: str, port: int, tls: Tls | None) -> bool:
    """Whether a server that speaks TLS takes the client."""
    if tls is None or tls.fingerprint is not None:
        context = _trusting()
    else:
        context = ssl.create_default_context(cafile=tls.authority)
    if tls is not None and tls.certificate is not None and tls.key is not None:
        context.load_cert_chain(tls.certificate, tls.key)
    with _connect(host, port, context) as connection:
        # gRPC's servers greet whom they take, and hang up where a certificate is missing.
        connection.settimeout(_GREETING_SECONDS)
        try:
            return bool(connection.recv(1))
        except TimeoutError:
            return True
        except ConnectionResetError:
            return False


def _pinned(host: str, port: int, fingerprint: str) -> tuple[str, str]:
    """The server's certificate as PEM, and a name that stands in it."""
    wanted = re.sub(r"^sha256:|[:\s]", "", fingerprint.strip().lower())
    if not re.fullmatch(r"[0-9a-f]{64}", wanted):
        raise InvalidRequest(
            "fingerprint",
            "a fingerprint is sha256: and 64 hexadecimal digits, as `dreamsmith certificate` "
            f"prints it, not {fingerprint!r}",
        )
    server = f"{host}:{port}"
    try:
        with _connect(host, port, _trusting()) as connection:
            der = connection.getpeercert(binary_form=True) or b""
        found = hashlib.sha256(der).hexdigest()
        if found != wanted:
            raise ServerNotTrusted(
                f"the server at {server} has another certificate (sha256:{found}) than the one "
                "with your fingerprint: ask whoever runs it whether it was renewed"
            )
        pem = ssl.DER_cert_to_PEM_cert(der)
        context = _trusting()
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.load_verify_locations(cadata=pem)
        with _connect(host, port, context) as connection:
            about = connection.getpeercert() or {}
    except ssl.SSLCertVerificationError as error:
        raise ServerNotTrusted(
            f"the certificate of the server at {server} cannot be used ({error.verify_message}): "
            "ask whoever runs it to renew it"
        ) from None
    except ssl.SSLError:
        raise ServerNotTrusted(f"the server at {server} does not speak TLS") from None
    except OSError:
        raise ServerUnreachable(
            f"no Dreamsmith server answers at {server}: is it running, and is the address right?"
        ) from None
    names: Any = about.get("subjectAltName", ())
    return pem, str(names[0][1]) if names else host


def _trusting() -> ssl.SSLContext:
    """For looking at a certificate; nothing is sent over such a connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _connect(host: str, port: int, context: ssl.SSLContext) -> ssl.SSLSocket:
    context.set_alpn_protocols(["h2"])
    plain = socket.create_connection((host, port), timeout=_TIMEOUT_SECONDS)
    try:
        return context.wrap_socket(plain, server_hostname=host)
    except BaseException:
        plain.close()
        raise


def _read(path: Path | None, option: str) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidRequest(
            "tls", f"cannot read {str(path)!r} of {option}: {error.strerror}"
        ) from None
