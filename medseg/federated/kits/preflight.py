"""`medseg federate join`'s look before anything starts: is this machine ready to be a site, and what to do where not.

Every line says what was found and what to do. A `fail` keeps the site from starting; a `warn` does not.
"""

from __future__ import annotations

import ctypes
import ipaddress
import shutil
import socket
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import medseg
from medseg.errors import MedsegError
from medseg.federated.bundle_hash import bundle_hash
from medseg.federated.kits import policy
from medseg.federated.kits.certificates import CertificateError, days_left, greet, own_certificate
from medseg.federated.privacy.encryption import EncryptionError, require_key
from medseg.federated.privacy.sealing import KEY_FILE, key_id, read_key
from medseg.federated.privacy.settings import Privacy, load_privacy, shipped_privacy
from medseg.workflows.doctor import Check
from medseg.workflows.probe import probe_gpus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from medseg.federated.kits.kit import Kit

#: Free space and memory, 1e9 bytes: below the first a site cannot work, below the second a round may fail.
DISK_FAIL_GB, DISK_WARN_GB = 1.0, 10.0
MEMORY_FAIL_GB, MEMORY_WARN_GB = 2.0, 8.0
#: A certificate that ends before so many days is worth asking for a new one.
DAYS_WARN = 30
_CGROUP = Path("/sys/fs/cgroup")
_TIME_ERROR = 5  # Linux adjtimex: the clock is not synchronised


def machine(kit: Kit) -> Iterator[Check]:
    """Look at everything but bundle and data, in the order in which one thing needs the other.

    Args:
        kit: of a site.
    """
    yield _versions(kit)
    yield _policy(kit)
    if kit.encrypted:
        yield _key(kit)
    yield _certificate(kit)
    yield _clock()
    name = _name(kit)
    yield name
    if name.verdict != "fail":
        port = _port(kit)
        yield port
        if port.verdict != "fail":
            yield _greeting(kit)
    mend = "free space on the disk of the kit, or move the kit"
    yield _amount("disk", shutil.disk_usage(kit.root).free / 1e9, DISK_FAIL_GB, DISK_WARN_GB, "free", mend)
    mend = "end other programs, or train on a machine with more memory"
    yield _amount("memory", _memory_free_gb(), MEMORY_FAIL_GB, MEMORY_WARN_GB, "free", mend)
    gpus = ", ".join(gpu.name for gpu in probe_gpus())
    yield Check(
        "GPU", "ok", f"{gpus} (medseg doctor says whether torch can use it)" if gpus else "none: the CPU trains"
    )


def bundle(kit: Kit, root: Path) -> Check:
    """Compare the bundle that lies here with the one that was agreed on.

    Args:
        kit: of a site.
        root: the bundle's folder.
    """
    found = bundle_hash(root)
    if not kit.bundle_sha256:
        return Check("bundle", "ok", f"{root.name}, SHA-256 {found[:12]} (the kit names none; jobs will)")
    if found != kit.bundle_sha256:
        return Check(
            "bundle",
            "fail",
            f"{root.name}, SHA-256 {found[:12]}; agreed on was {kit.bundle}, {kit.bundle_sha256[:12]}",
            "install the bundle that the coordinator sent, unchanged, and name it with --bundle",
        )
    return Check("bundle", "ok", f"{root.name}, SHA-256 {found[:12]} as agreed")


def _versions(kit: Kit) -> Check:
    import nvflare

    found = f"medseg {medseg.__version__}, NVFLARE {nvflare.__version__}"
    if kit.medseg != medseg.__version__:
        mend = f"better install the same everywhere: pip install 'medseg[federated]=={kit.medseg}'"
        return Check("versions", "warn", f"{found}; the kit was made by medseg {kit.medseg}", mend)
    return Check("versions", "ok", found)


def _policy(kit: Kit) -> Check:
    if any(character.isspace() for character in str(kit.root)):
        return Check(
            "kit", "fail", f"its path holds a space: {kit.root}", "move it: NVFLARE's commands break at spaces"
        )
    found = policy.loosened(kit.local, _needed(kit))
    if found:
        mend = "take these files of local/ from the kit as it came; medseg does not start a site that allows more"
        return Check("what it allows", "fail", "\n".join(found), mend)
    return Check("what it allows", "ok", "no code from elsewhere, no logs, no look at files; every update is audited")


def _needed(kit: Kit) -> Privacy:
    """What the kit says that its filters do to updates. Kits of an older medseg say it by name alone."""
    found = kit.setting
    if found is None:
        found = load_privacy(kit.privacy) if kit.privacy in shipped_privacy() else Privacy(kit.privacy)
    return replace(found, encrypted=found.encrypted or kit.encrypted)


def _key(kit: Kit) -> Check:
    """Whether this site can encrypt, and which key it has: the same digits at all sites."""
    if not policy.encrypts(kit.local):
        mend = f"take local/{policy.PRIVACY} from the kit as it came"
        return Check("encryption", "fail", f"the filters of local/{policy.PRIVACY} do not encrypt", mend)
    if find_spec("tenseal") is None:
        return Check("encryption", "fail", "tenseal is not installed", 'pip install "medseg[encrypted]"')
    try:
        key = read_key(kit.local / KEY_FILE)
        require_key(key)
    except EncryptionError as error:
        return Check("encryption", "fail", error.what, error.mend)
    return Check("encryption", "ok", f"updates leave encrypted, with the key {key_id(key)} (all sites need the same)")


def _certificate(kit: Kit) -> Check:
    mend = "ask the coordinator for a new kit (medseg federate prepare), and look at this machine's date"
    try:
        certificate = own_certificate(kit)
        left = days_left(certificate)
    except CertificateError as error:
        return Check("certificate", "fail", str(error), mend)
    found = f"{certificate.name}, until {certificate.ends:%Y-%m-%d}"
    if left <= 0:
        return Check("certificate", "fail", f"{found}: it has ended", mend)
    keys = [path for path in kit.startup.glob("*.key") if path.stat().st_mode & 0o077]
    if keys and sys.platform != "win32":
        return Check("certificate", "warn", f"others on this machine can read {keys[0].name}", f"chmod 600 {keys[0]}")
    return Check("certificate", "warn" if left < DAYS_WARN else "ok", found, mend if left < DAYS_WARN else "")


def _clock() -> Check:
    """Certificates hold by the clock. Whether it is kept right is asked where the system can tell."""
    if sys.platform != "linux":
        return Check("clock", "ok", "within the certificate's dates")
    state = _adjtimex()
    if state == _TIME_ERROR:
        return Check("clock", "warn", "nothing keeps it right (no time service)", "timedatectl set-ntp true")
    return Check("clock", "ok", "kept right by a time service" if state >= 0 else "the system does not tell")


def _adjtimex() -> int:
    """Linux' own answer about its clock: 0 to 4 synchronised, 5 not, -1 it does not tell."""
    try:
        return int(ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512)))
    except (OSError, AttributeError):
        return -1


def _name(kit: Kit) -> Check:
    try:
        found = sorted({str(one[4][0]) for one in socket.getaddrinfo(kit.host, kit.port, type=socket.SOCK_STREAM)})
    except OSError as error:
        mend = "ask for the right name, or add a line to the hosts file; a proxy or VPN may be needed"
        return Check("name", "fail", f"{kit.host} is not known here ({error.strerror or error})", mend)
    shown = f"{kit.host} is {', '.join(found[:3])}"
    if kit.host != "localhost" and all(ipaddress.ip_address(one.split("%")[0]).is_loopback for one in found):
        mend = f"unless the server runs here, take the line with {kit.host} out of the hosts file"
        return Check("name", "warn", f"{shown}: this machine takes the name for its own", mend)
    return Check("name", "ok", shown)


def _port(kit: Kit) -> Check:
    try:
        with socket.create_connection((kit.host, kit.port), timeout=5.0):
            return Check("port", "ok", f"{kit.port} is open")
    except OSError as error:
        why = "nothing answers" if isinstance(error, TimeoutError) else (error.strerror or str(error)).lower()
        mend = f"is the server running? else ask for outgoing TCP to {kit.host}:{kit.port} at the firewall"
        return Check("port", "fail", f"{kit.host}:{kit.port}: {why}", mend)


def _greeting(kit: Kit) -> Check:
    mend = "kit and server are of different projects, or a proxy breaks TLS open: ask the coordinator for the right kit"
    try:
        return Check("mutual TLS", "ok", f"{greet(kit)} and this site accept each other")
    except (CertificateError, OSError) as error:
        return Check("mutual TLS", "fail", str(error), mend)


def _memory_free_gb() -> float:
    """What this process can still take, 1e9 bytes: of the machine, or of its container where that has less."""
    import psutil

    free = float(psutil.virtual_memory().available)
    try:
        most, used = (float((_CGROUP / name).read_text(encoding="ascii")) for name in ("memory.max", "memory.current"))
    except (OSError, ValueError):  # no Linux, no control group, or its limit is the word "max"
        return free / 1e9
    return min(free, most - used) / 1e9


def _amount(name: str, found_gb: float, fail_gb: float, warn_gb: float, word: str, mend: str) -> Check:
    found = f"{found_gb:.1f} GB {word}"
    if found_gb < fail_gb:
        return Check(name, "fail", f"{found}; {fail_gb:g} GB are needed", mend)
    return (
        Check(name, "warn", f"{found}; better {warn_gb:g} GB", mend) if found_gb < warn_gb else Check(name, "ok", found)
    )


def data_check(look: Callable[[], str]) -> Check:
    """The line about this site's cases.

    Args:
        look: counts them; raises a MedsegError where they cannot be trained on.
    """
    try:
        return Check("data", "ok", look())
    except MedsegError as error:
        what = error.what if error.file is None else f"{error.file}: {error.what}"
        return Check("data", "fail", f"{error.code} {what}", error.mend)
