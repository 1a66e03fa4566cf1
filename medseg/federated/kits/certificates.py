"""A kit's certificate: does it hold now, is it this site's, does the server accept it and show one of the same project."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medseg.federated.kits.kit import Kit


class CertificateError(Exception):
    """What is wrong, in words for the site; turned into a line of its table."""


@dataclass(frozen=True)
class Certificate:
    """What matters of one.

    Args:
        name: whom it was issued to.
        begins: from when on it holds.
        ends: until when it holds.
    """

    name: str
    begins: datetime
    ends: datetime


def own_certificate(kit: Kit) -> Certificate:
    """The kit's certificate, once it and its key belong together, to this kit, and to the project's root.

    Raises:
        CertificateError: they do not, or a file is missing.
    """
    base = kit.startup / ("server" if kit.kind == "server" else "client")
    crt, key, root = base.with_suffix(".crt"), base.with_suffix(".key"), kit.startup / "rootCA.pem"
    missing = [path.name for path in (crt, key, root) if not path.is_file()]
    if missing:
        msg = f"startup/{missing[0]} is missing"
        raise CertificateError(msg)
    from nvflare.lighter.utils import load_crt, verify_cert

    try:
        ssl.create_default_context(cafile=str(root)).load_cert_chain(crt, key)
        certificate, authority = load_crt(crt), load_crt(root)
    except (OSError, ValueError) as error:
        msg = f"certificate and key do not belong together, or are damaged ({_short(error)})"
        raise CertificateError(msg) from error
    try:
        verify_cert(certificate, authority.public_key())
    except Exception as error:
        msg = "the certificate was not issued by this kit's project"
        raise CertificateError(msg) from error
    found = Certificate(_common_name(certificate), certificate.not_valid_before_utc, certificate.not_valid_after_utc)
    if found.name != kit.name:
        msg = f"the certificate belongs to {found.name}, not to {kit.name}"
        raise CertificateError(msg)
    return found


def days_left(certificate: Certificate, now: datetime | None = None) -> float:
    """Days until a certificate ends; below 0 when it has ended.

    Raises:
        CertificateError: it does not hold yet.
    """
    now = now or datetime.now(UTC)
    if now < certificate.begins:
        msg = f"the certificate holds from {certificate.begins:%Y-%m-%d %H:%M} UTC on, and this machine says {now:%Y-%m-%d %H:%M}"
        raise CertificateError(msg)
    return (certificate.ends - now).total_seconds() / 86400


def greet(kit: Kit, timeout_s: float = 5.0) -> str:
    """Shake hands with the server by mutual TLS, as NVFLARE will; the server's name.

    TLS 1.3 tells a client that it is refused only after the handshake, so one byte is waited for: a gRPC server speaks
    first.

    Raises:
        CertificateError: one side refuses the other.
        OSError: nothing answers.
    """
    context = ssl.create_default_context(cafile=str(kit.startup / "rootCA.pem"))
    context.load_cert_chain(kit.startup / "client.crt", kit.startup / "client.key")
    context.set_alpn_protocols(["h2"])
    with socket.create_connection((kit.host, kit.port), timeout=timeout_s) as plain:
        try:
            with context.wrap_socket(plain, server_hostname=kit.host) as secure:
                secure.settimeout(timeout_s)
                secure.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
                if not secure.recv(1):
                    msg = "the server ended the connection: it does not accept this kit's certificate"
                    raise CertificateError(msg)
        except ssl.SSLCertVerificationError as error:
            msg = f"the server's certificate is not of this project, or not for {kit.host} ({error.verify_message})"
            raise CertificateError(msg) from error
        except (ssl.SSLError, ConnectionResetError) as error:
            msg = f"the server does not accept this kit's certificate ({_short(error)})"
            raise CertificateError(msg) from error
        except TimeoutError as error:
            msg = f"something listens on port {kit.port}, but it is no medseg server"
            raise CertificateError(msg) from error
    return kit.host


def _common_name(certificate: Any) -> str:
    names = [attribute.value for attribute in certificate.subject if attribute.oid.dotted_string == "2.5.4.3"]
    return str(names[0]) if names else ""


def _short(error: BaseException) -> str:
    return str(getattr(error, "reason", "") or error).splitlines()[0] if str(error) else type(error).__name__
