# SPDX-License-Identifier: Apache-2.0
"""Where a server listens, and what it takes before it may be reached from other machines."""

from __future__ import annotations

import datetime
import errno
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc

from dreamsmith.errors import InvalidRequest, ServerNotStarted
from dreamsmith.wire.loopback import is_loopback

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 50051


@dataclass(frozen=True)
class ServerTls:
    """PEM files of a server.

    Attributes:
        certificate: of the server, with those between it and its authority after it.
        key: of the certificate.
        client_authority: clients must have a certificate that it signed; None asks for none.
    """

    certificate: Path
    key: Path
    client_authority: Path | None = None


@dataclass(frozen=True)
class Listening:
    """Where a server answers.

    Attributes:
        host: as it was given.
        port: the one that was taken.
        fingerprint: of its certificate; empty without TLS.
        metrics_port: where Prometheus is answered; None for nowhere.
    """

    host: str
    port: int
    fingerprint: str
    metrics_port: int | None = None

    @property
    def address(self) -> str:
        """``HOST:PORT``."""
        return join(self.host, self.port)


def parse_address(text: str, default_port: int = DEFAULT_PORT) -> tuple[str, int]:
    """Host and port of ``HOST``, ``HOST:PORT``, ``[IPV6]`` or ``[IPV6]:PORT``.

    Raises:
        InvalidRequest: it is none of these.
    """
    found = re.fullmatch(r"\[([0-9A-Fa-f:.]+)\](?::(\d{1,5}))?|([^:\s]+)(?::(\d{1,5}))?", text)
    if text.count(":") > 1 and "[" not in text:
        return text, default_port
    port = int(found[2] or found[4] or default_port) if found else -1
    if found is None or port > 65535:
        raise InvalidRequest(
            "listen", f"--listen is HOST or HOST:PORT, for instance 0.0.0.0:50051, not {text!r}"
        )
    return found[1] or found[3], port


def check_reachable(host: str, tls: ServerTls | None, *, has_tokens: bool, data_dir: str) -> None:
    """Refuse to be open to other machines without proof of who is who.

    Args:
        host: where the server is to listen.
        tls: what it has.
        has_tokens: whether any token is valid.
        data_dir: for the commands that the message names: empty, or `` --data-dir FOLDER``.

    Raises:
        ServerNotStarted: other machines reach it, and there is no TLS, or nobody could come in.
    """
    if is_loopback(host):
        return
    if tls is None:
        raise ServerNotStarted(
            f"--listen {host} can be reached from other machines, which needs TLS and tokens: make "
            f"them with `dreamsmith certificate{data_dir}` and `dreamsmith token create "
            f"NAME{data_dir}`, then start again (or give --tls-certificate and --tls-key)"
        )
    if not has_tokens and tls.client_authority is None:
        raise ServerNotStarted(
            f"--listen {host} would let nobody in, no token is valid: make one with `dreamsmith "
            f"token create NAME{data_dir}`, or let in who has a certificate with --tls-client-ca"
        )


def check_port(host: str, port: int) -> None:
    """Try the port by ourselves first: gRPC prints lines of its own when it is taken.

    Raises:
        ServerNotStarted: it cannot be had.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[:1]
    except OSError:
        raise _no_address(host) from None
    for family, kind, protocol, _, address in found:
        with socket.socket(family, kind, protocol) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind(address)
            except OSError as error:
                if error.errno == errno.EADDRNOTAVAIL:
                    raise _no_address(host) from None
                if isinstance(error, PermissionError):
                    raise ServerNotStarted(
                        f"port {port} may not be used by you: choose one from 1024 on, or "
                        "--port 0 for a free one"
                    ) from None
                raise _port_in_use(port) from None


def open_port(server: Any, host: str, port: int, tls: ServerTls | None) -> Listening:
    """Have a gRPC server listen.

    Raises:
        ServerNotStarted: the port was taken meanwhile, or the certificate cannot be used.
    """
    address = join(host, port)
    credentials, fingerprint = _credentials(tls) if tls else (None, "")
    try:
        if credentials is None:
            return Listening(host, server.add_insecure_port(address), fingerprint)
        return Listening(host, server.add_secure_port(address, credentials), fingerprint)
    except RuntimeError:
        raise _port_in_use(port) from None


def join(host: str, port: int) -> str:
    """``HOST:PORT``, with brackets where the host has colons."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _credentials(tls: ServerTls) -> tuple[grpc.ServerCredentials, str]:
    # A server for this machine alone does without that much code.
    from cryptography.hazmat.primitives import serialization

    from dreamsmith.service.certificates import fingerprint_of, read_certificate

    try:
        certificate = read_certificate(tls.certificate)
        key = _read(tls.key)
        public = serialization.load_pem_private_key(key, password=None).public_key()
    except InvalidRequest as error:
        raise ServerNotStarted(error.message) from None
    except (ValueError, TypeError):
        raise ServerNotStarted(
            f"{str(tls.key)!r} holds no PEM key without a password: give another with --tls-key"
        ) from None
    if public != certificate.public_key():
        raise ServerNotStarted(
            f"the key {str(tls.key)!r} is not the certificate's {str(tls.certificate)!r}: give the "
            "pair with --tls-certificate and --tls-key"
        )
    end = certificate.not_valid_after_utc
    if end < datetime.datetime.now(datetime.UTC):
        raise ServerNotStarted(
            f"the certificate {str(tls.certificate)!r} ended on {end.date().isoformat()}: make a "
            "new one with `dreamsmith certificate`"
        )
    authority = None
    if tls.client_authority is not None:
        read_certificate(tls.client_authority)
        authority = _read(tls.client_authority)
    credentials = grpc.ssl_server_credentials(
        [(key, _read(tls.certificate))],
        root_certificates=authority,
        require_client_auth=authority is not None,
    )
    return credentials, fingerprint_of(certificate)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ServerNotStarted(f"cannot read {str(path)!r}: {error.strerror}") from None


def _no_address(host: str) -> ServerNotStarted:
    return ServerNotStarted(
        f"cannot listen on {host}: it is no address of this machine; 0.0.0.0 is all of them"
    )


def _port_in_use(port: int) -> ServerNotStarted:
    return ServerNotStarted(
        f"port {port} is in use: stop the other server, or choose another with --port "
        "(0 takes a free one)"
    )
