"""Handshakes against real TLS servers on this machine: the right one, one of another project, and ones that are none."""

from __future__ import annotations

import shutil
import socket
import ssl
import threading
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from medseg.federated.kits.certificates import CertificateError, days_left, greet, own_certificate
from medseg.federated.kits.kit import read_kit
from medseg.federated.kits.prepare import prepare


@pytest.fixture(scope="module")
def others(kits, tmp_path_factory):
    """Kits of the same names, by another project's root."""
    folder = tmp_path_factory.mktemp("others")
    shutil.copy(kits.parent / "project.yaml", folder)
    prepare(folder / "project.yaml", folder / "made")
    return folder / "made"


@contextmanager
def listening(kit, *, tls: bool = True, speaks: bool = True):
    """A server with a kit's certificate that asks for the client's, and speaks first, as gRPC does."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(kit.startup / "server.crt", kit.startup / "server.key")
    context.load_verify_locations(kit.startup / "rootCA.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    held = []

    def answer(server):
        while True:
            try:
                plain, _ = server.accept()
            except OSError:
                return
            held.append(plain)
            if tls:
                try:
                    secure = context.wrap_socket(plain, server_side=True)
                    held.append(secure)
                    if speaks:
                        secure.sendall(b"\x00")
                except OSError:
                    plain.close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answer, args=(server,), daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            server.close()
            thread.join(5)
            for one in held:
                one.close()


def site(kits, name="site-1", port=None):
    kit = read_kit(kits / "sites" / name)
    return kit if port is None else replace(kit, port=port)


def test_server_and_site_of_one_project_accept_each_other(kits):
    with listening(read_kit(kits / "server")) as port:
        assert greet(site(kits, port=port)) == "localhost"


def test_a_server_of_another_project_is_refused(kits, others):
    with listening(read_kit(others / "server")) as port, pytest.raises(CertificateError, match="not of this project"):
        greet(site(kits, port=port))


def test_a_site_of_another_project_hears_that_it_is_refused(kits, others, tmp_path):
    mixed = tmp_path / "mixed"
    shutil.copytree(others / "sites" / "site-1", mixed)
    shutil.copy(kits / "sites/site-1/startup/rootCA.pem", mixed / "startup")  # it trusts the server; the server not it
    with (
        listening(read_kit(kits / "server")) as port,
        pytest.raises(CertificateError, match="does not accept this kit's certificate"),
    ):
        greet(replace(read_kit(mixed), port=port))


def test_a_server_of_another_name_is_refused(kits):
    with listening(read_kit(kits / "server")) as port, pytest.raises(CertificateError, match=r"127\.0\.0\.1"):
        greet(replace(site(kits, port=port), host="127.0.0.1"))


@pytest.mark.parametrize("tls", [True, False])
def test_what_listens_but_is_no_server_of_ours_is_told(kits, tls):
    with (
        listening(read_kit(kits / "server"), tls=tls, speaks=False) as port,
        pytest.raises(CertificateError, match="no medseg server"),
    ):
        greet(site(kits, port=port), timeout_s=0.5)


def test_where_nothing_listens_it_is_the_systems_error(kits):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(OSError, match="refused"):
            greet(site(kits, port=free.getsockname()[1]))


def test_the_own_certificate_is_this_kits(kits):
    assert own_certificate(site(kits)).name == "site-1"


@pytest.mark.parametrize(
    ("files", "word"),
    [
        (("client.crt",), "belong together"),
        (("client.crt", "client.key"), "belongs to site-2"),
    ],
)
def test_another_sites_certificate_is_told(kits, tmp_path, files, word):
    shutil.copytree(kits / "sites" / "site-1", tmp_path / "kit")
    for name in files:
        shutil.copy(kits / "sites/site-2/startup" / name, tmp_path / "kit/startup")
    with pytest.raises(CertificateError, match=word):
        own_certificate(read_kit(tmp_path / "kit"))


def test_a_certificate_by_another_root_is_told(kits, others, tmp_path):
    shutil.copytree(kits / "sites" / "site-1", tmp_path / "kit")
    for name in ("client.crt", "client.key"):
        shutil.copy(others / "sites/site-1/startup" / name, tmp_path / "kit/startup")
    with pytest.raises(CertificateError, match="not issued by this kit's project"):
        own_certificate(read_kit(tmp_path / "kit"))


@pytest.mark.parametrize("name", ["client.crt", "client.key", "rootCA.pem"])
@pytest.mark.parametrize("content", [None, b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_missing_or_broken_file_is_told(kits, tmp_path, name, content):
    shutil.copytree(kits / "sites" / "site-1", tmp_path / "kit")
    path = tmp_path / "kit/startup" / name
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(CertificateError, match=f"{name} is missing" if content is None else "damaged"):
        own_certificate(read_kit(tmp_path / "kit"))


def test_dates_are_told_by_the_clock(kits):
    certificate = own_certificate(site(kits))
    assert 359 < days_left(certificate) <= 360
    assert days_left(certificate, certificate.ends + timedelta(days=2)) == -2
    with pytest.raises(CertificateError, match="this machine says 2020-01-01"):
        days_left(certificate, datetime(2020, 1, 1, tzinfo=UTC))
