"""A project: the one file that says who trains together, `configs/federation/project.example.yaml`.

It holds names, never places of data: where a site's scans lie stands only in the site's own file, which `medseg federate
join` writes at the hospital.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, Any

from medseg.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLE = "configs/federation/project.example.yaml"
#: What an administrator may do: `lead` submits and stops jobs, `member` looks on.
ROLES = ("lead", "member")

_PROJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
_SITE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,49}")
_ORGANISATION = re.compile(r"[A-Za-z0-9_]{1,50}")
_EMAIL = re.compile(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}")
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.)*[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?")
#: Names that NVFLARE keeps for itself, or that are folders of ours.
_TAKEN = frozenset({"server", "admin", "all", "@all", "client", "clients", "sites", "admins", "authority"})
#: The longest name that a certificate can carry.
_LONGEST = 64


@dataclass(frozen=True)
class Server:
    """The machine that all sites connect to.

    Args:
        host: its name, as every site can look it up; it stands in its certificate, so it is no number.
        port: the one port that it listens on.
        organisation: who runs it: letters, digits, underscores.
    """

    host: str
    organisation: str
    port: int = 8002


@dataclass(frozen=True)
class Site:
    """One hospital.

    Args:
        name: letters, digits, hyphens and underscores.
        organisation: letters, digits, underscores.
    """

    name: str
    organisation: str


@dataclass(frozen=True)
class Admin:
    """A person who may speak to the server.

    Args:
        email: names the person.
        organisation: letters, digits, underscores.
        role: one of `ROLES`.
    """

    email: str
    organisation: str
    role: str = "lead"


@dataclass(frozen=True)
class Project:
    """Who trains together.

    Args:
        name: of the project.
        server: that all connect to.
        sites: the hospitals, one or more.
        admins: who may speak to the server, at least one lead.
        privacy: what every kit's own filters do beside the audit: a name of configs/federation/privacy.
        heart_beat_timeout_s: a site that has been silent for so long counts as gone.
        valid_days: how long the project's root certificate holds; a kit's own ends with it, and after 360 days at most.
    """

    name: str
    server: Server
    sites: tuple[Site, ...]
    admins: tuple[Admin, ...]
    privacy: str = "none"
    heart_beat_timeout_s: int = 60
    valid_days: int = 360

    @property
    def names(self) -> tuple[str, ...]:
        """The sites' names, in the file's order."""
        return tuple(site.name for site in self.sites)


def load_project(path: Path) -> Project:
    """Read a project's file.

    Raises:
        UsageError: MS-J050 it is not there, no YAML mapping, or has a key or value that is not accepted; MS-J051 a name
            that certificates or NVFLARE do not accept, or that stands twice; MS-J052 nobody may submit a job.
    """
    import yaml

    try:
        said = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise _refused(path, f"it cannot be read ({str(error).splitlines()[0]})") from error
    content = _mapping(said, "the file", path)
    server = _made(Server, content.pop("server", None), "server", path)
    sites = tuple(_made(Site, one, "a site", path) for one in _listed(content.pop("sites", None), "sites", path))
    admins = tuple(_made(Admin, one, "an admin", path) for one in _listed(content.pop("admins", None), "admins", path))
    _known(content, Project, "the file", path, beside=("server", "sites", "admins"))
    project = Project(server=server, sites=sites, admins=admins, **content)
    _check_numbers(project, path)
    _check_names(project, path)
    if not any(admin.role == "lead" for admin in admins):
        raise UsageError("MS-J052", "no admin has the role lead, so nobody could submit a job", file=path,
                         mend="give one of `admins` role: lead")  # fmt: skip
    return project


def _check_numbers(project: Project, path: Path) -> None:
    for key, low, high in (("heart_beat_timeout_s", 10, 3600), ("valid_days", 1, 3650)):
        if not low <= getattr(project, key) <= high:
            raise _refused(path, f"`{key}` is {getattr(project, key)}, not from {low} to {high}")
    if not 1 <= project.server.port <= 65535:
        raise _refused(path, f"`port` is {project.server.port}, not from 1 to 65535")
    for admin in project.admins:
        if admin.role not in ROLES:
            raise _refused(path, f"{admin.email} has the role {admin.role!r}; accepted: {', '.join(ROLES)}")


def _check_names(project: Project, path: Path) -> None:
    wanted = [(project.name, _PROJECT, "letters, digits, - and _ (40 at most)")]
    wanted += [(site.name, _SITE, "letters, digits, - and _ (50 at most)") for site in project.sites]
    wanted += [(admin.email, _EMAIL, "an e-mail address") for admin in project.admins]
    wanted += [
        (one.organisation, _ORGANISATION, "letters, digits and _ (50 at most)")
        for one in (project.server, *project.sites, *project.admins)
    ]
    for name, pattern, accepted in wanted:
        if not pattern.fullmatch(name) or len(name) > _LONGEST:
            raise UsageError("MS-J051", f"{name!r} is no name that certificates take", file=path,
                             mend=f"write {accepted}")  # fmt: skip
    _check_host(project.server.host, path)
    seen: set[str] = set()
    for name in (*project.names, *(admin.email for admin in project.admins), project.server.host):
        if name.lower() in seen or name.lower() in _TAKEN:
            why = "stands twice" if name.lower() in seen else "is a name that NVFLARE keeps for itself"
            raise UsageError("MS-J051", f"{name!r} {why}", file=path, mend="give every site and admin its own name")
        seen.add(name.lower())


def _check_host(host: str, path: Path) -> None:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        raise UsageError("MS-J051", f"the server's host is the number {host}", file=path,
                         mend="give the machine's name: certificates are issued to names")  # fmt: skip
    if not _HOST.fullmatch(host) or len(host) > _LONGEST:
        raise UsageError("MS-J051", f"{host!r} is no name of a machine", file=path,
                         mend="write it like fl.example.org (letters, digits, hyphens, dots; 64 at most)")  # fmt: skip


def _made(kind: type, said: Any, what: str, path: Path) -> Any:
    content = _mapping(said, what, path)
    _known(content, kind, what, path)
    return kind(**content)


def _mapping(said: Any, what: str, path: Path) -> dict[str, Any]:
    if not isinstance(said, dict) or not said:
        raise _refused(path, f"{what} is no mapping of keys to values")
    return {str(key): value for key, value in said.items()}


def _listed(said: Any, key: str, path: Path) -> list[Any]:
    if not isinstance(said, list) or not said:
        raise _refused(path, f"`{key}` is no list of at least one")
    return said


def _known(content: dict[str, Any], kind: type, what: str, path: Path, beside: tuple[str, ...] = ()) -> None:
    """Refuse keys that `kind` does not have, those that are missing, and values of another type."""
    accepted = {one.name: one for one in fields(kind)}
    for key, value in content.items():
        if key not in accepted or key in beside:
            close = difflib.get_close_matches(key, accepted, n=1)
            hint = f"did you mean `{close[0]}`?" if close else f"accepted: {', '.join(accepted)}"
            raise _refused(path, f"{what} has the key `{key}`, which nothing knows ({hint})")
        wanted = int if accepted[key].type == "int" else str
        if not isinstance(value, wanted) or isinstance(value, bool):
            raise _refused(path, f"`{key}` of {what} is {value!r}, not {'a whole number' if wanted is int else 'text'}")
    missing = [
        name for name, one in accepted.items() if one.default is MISSING and name not in content and name not in beside
    ]
    if missing:
        raise _refused(path, f"{what} lacks `{missing[0]}`")


def _refused(path: Path, what: str) -> UsageError:
    return UsageError("MS-J050", what, file=path, mend=f"write it like {EXAMPLE}")
