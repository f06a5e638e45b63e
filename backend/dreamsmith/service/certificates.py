# SPDX-License-Identifier: Apache-2.0
"""A studio's own certificate authority: for its servers and, if wanted, its clients."""

from __future__ import annotations

import datetime
import ipaddress
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dreamsmith.errors import InvalidRequest
from dreamsmith.files import write_atomic, write_private

AUTHORITY_DAYS: Final = 3650
MAXIMUM_DAYS: Final = 3650
_HOST: Final = re.compile(r"(\*\.)?[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9-]+)*")
_CLIENT: Final = re.compile(r"[a-z0-9][a-z0-9._@-]{0,62}")
# Clocks differ.
_EARLIER: Final = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Certificate:
    """Files of a certificate, and what it is known by.

    Attributes:
        certificate: PEM.
        key: PEM, readable by its owner alone.
        authority: PEM of who signed it, for clients.
        fingerprint: ``sha256:`` and 64 hexadecimal digits, of the certificate.
        names: hosts, or the client's name.
        expire_time: its last moment.
    """

    certificate: Path
    key: Path
    authority: Path
    fingerprint: str
    names: tuple[str, ...]
    expire_time: datetime.datetime


def make_server_certificate(folder: Path, names: Sequence[str], days: int) -> Certificate:
    """A server's certificate, signed by the authority in ``folder``, made where there is none.

    Args:
        folder: gets ``ca.pem``, ``ca.key``, ``server.pem`` and ``server.key``.
        names: host names and addresses that clients use; none: this machine's.
        days: that it is valid, 1 to `MAXIMUM_DAYS`.

    Raises:
        InvalidRequest: a name is none, or the folder cannot be written.
    """
    found = tuple(dict.fromkeys(names or (*_own_names(), "localhost", "127.0.0.1", "::1")))
    alternatives = x509.SubjectAlternativeName([_general_name(name) for name in found])
    usage = ExtendedKeyUsageOID.SERVER_AUTH
    return _make(folder, "server", found, days, usage, alternatives)


def make_client_certificate(folder: Path, name: str, days: int) -> Certificate:
    """The certificate of a client, for mutual TLS: ``client-NAME.pem`` and ``client-NAME.key``.

    Raises:
        InvalidRequest: the name is not allowed, or the folder cannot be written.
    """
    if not _CLIENT.fullmatch(name):
        raise InvalidRequest(
            "client",
            "a client's name has 1 to 63 lower-case letters, digits, '.', '_', '@' and '-', "
            f"not {name!r}",
        )
    usage = ExtendedKeyUsageOID.CLIENT_AUTH
    return _make(folder, f"client-{name}", (name,), days, usage, None)


def fingerprint_of(certificate: x509.Certificate) -> str:
    """What a certificate is known by."""
    return f"sha256:{certificate.fingerprint(hashes.SHA256()).hex()}"


def read_certificate(path: Path) -> x509.Certificate:
    """The first certificate of a PEM file.

    Raises:
        InvalidRequest: there is none.
    """
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it holds no PEM certificate"
        raise InvalidRequest("tls", f"cannot read the certificate {str(path)!r}: {why}") from None


def _make(
    folder: Path,
    stem: str,
    names: tuple[str, ...],
    days: int,
    usage: x509.ObjectIdentifier,
    alternatives: x509.SubjectAlternativeName | None,
) -> Certificate:
    if not 1 <= days <= MAXIMUM_DAYS:
        raise InvalidRequest("days", f"--days must be 1 to {MAXIMUM_DAYS}, not {days}")
    try:
        for each in (folder.parent, folder):
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
        authority, authority_key = _authority(folder)
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.now(datetime.UTC)
        until = min(now + datetime.timedelta(days=days), authority.not_valid_after_utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(names[0]))
            .issuer_name(authority.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _EARLIER)
            .not_valid_after(until)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()),
                critical=False,
            )
        )
        if alternatives is not None:
            builder = builder.add_extension(alternatives, critical=False)
        certificate = builder.sign(authority_key, hashes.SHA256())
        files = folder / f"{stem}.pem", folder / f"{stem}.key"
        write_private(files[1], _key_pem(key))
        write_atomic(files[0], _pem(certificate))
    except OSError as error:
        raise InvalidRequest(
            "output",
            f"cannot write certificates into {str(folder)!r}: {error.strerror}; name another "
            "folder with --output",
        ) from None
    return Certificate(
        *files,
        folder / "ca.pem",
        fingerprint_of(certificate),
        names,
        certificate.not_valid_after_utc,
    )


def _authority(folder: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    paths = folder / "ca.pem", folder / "ca.key"
    if paths[0].exists() and paths[1].exists():
        try:
            key = serialization.load_pem_private_key(paths[1].read_bytes(), password=None)
        except ValueError:
            key = None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise InvalidRequest(
                "output", f"{str(paths[1])!r} is no key of an authority that was made here"
            )
        return read_certificate(paths[0]), key
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    name = _name(f"Dreamsmith authority of {socket.gethostname()}"[:64])
    signing = {"key_cert_sign": True, "crl_sign": True}
    others = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "encipher_only",
        "decipher_only",
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLIER)
        .not_valid_after(now + datetime.timedelta(days=AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.KeyUsage(**signing, **dict.fromkeys(others, False)), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    write_private(paths[1], _key_pem(key))
    write_atomic(paths[0], _pem(certificate))
    return certificate, key


def _own_names() -> tuple[str, ...]:
    names = [socket.gethostname(), socket.getfqdn()]
    return tuple(name for name in names if len(name) < 64 and _HOST.fullmatch(name))


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    if len(name) > 253 or not _HOST.fullmatch(name):
        raise InvalidRequest(
            "name", f"--name is a host name or an address, for instance farm.local, not {name!r}"
        )
    return x509.DNSName(name)


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:64])])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
