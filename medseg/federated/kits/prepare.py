"""`medseg federate prepare`: a project's file -> a start-up kit each for the server, every site and every administrator.

Keys, certificates and addresses come from NVFLARE's provisioning; what a site allows comes from `policy`. The folder
`authority` holds the project's root key and every private key that was made: whoever has it can pose as anybody. It stays
with the coordinator, and with it the project can grow: a second run makes kits for new lines of the file only. Where
updates are to leave encrypted, the key that all sites share is made here too, and goes into the kits of sites alone.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import medseg
from medseg.errors import OutputError, UsageError
from medseg.federated.bundle_hash import bundle_hash
from medseg.federated.installed import require_nvflare
from medseg.federated.kits import policy
from medseg.federated.kits.kit import Kit, read_kit, write_kit
from medseg.federated.kits.project import Project, load_project
from medseg.federated.privacy.encryption import make_keys
from medseg.federated.privacy.promises import promises
from medseg.federated.privacy.sealing import KEY_FILE
from medseg.federated.privacy.settings import load_privacy, privacy_json
from medseg.writers.atomic import write_bytes, write_json, write_text

if TYPE_CHECKING:
    from medseg.federated.privacy.settings import Privacy

AUTHORITY = "authority"
#: Scripts of NVFLARE that would start a kit without medseg's look at it, and with whatever python3 is first on the path.
_SCRIPTS = ("start.sh", "sub_start.sh", "stop_fl.sh", "docker.sh")
_SECRET, _PRIVATE = 0o600, 0o700


@dataclass(frozen=True)
class Prepared:
    """What was made.

    Args:
        project: as its file says.
        kits: new ones.
        kept: names whose kits were there already; those of server and administrators learn of new sites.
        promises: what may be said of the project's privacy.
    """

    project: Project
    kits: tuple[Kit, ...]
    kept: tuple[str, ...]
    promises: tuple[str, ...]


def prepare(file: Path, out: Path, *, bundle: str | Path | None = None) -> Prepared:
    """Make start-up kits.

    Args:
        file: of the project.
        out: folder of the kits: server/, sites/NAME/, admins/EMAIL/, authority/.
        bundle: that all sites agreed on: its name and hash go into the kits, and `join` compares.

    Raises:
        UsageError: MS-J050, MS-J051, MS-J052 the project's file; MS-J100 its privacy setting; MS-J073 kits that are
            there were made for another one.
        InputError: MS-J054 a kit that is there is damaged.
        MissingExtraError: MS-J053 NVFLARE is not installed.
        MissingExtraError: MS-J102 updates are to be encrypted, and tenseal is not installed.
        BundleError: MS-B101, MS-B102 the bundle is not there.
        OutputError: MS-J055 NVFLARE could not make the kits; MS-J056 `out` holds another project.
    """
    project = load_project(file)
    privacy = load_privacy(project.privacy)
    agreed = ("", "") if bundle is None else (_name(bundle), bundle_hash(bundle))
    require_nvflare()
    _check_place(project, out)
    said = promises(len(project.sites), privacy)
    planned = _planned(project, privacy, out, said, *agreed)
    _check_kept(planned, privacy)
    key = _sites_key(out / AUTHORITY) if privacy.encrypted else None
    made = _provision(project, out / AUTHORITY)
    _guard(out / AUTHORITY)
    kits, kept = [], []
    for kit in planned:
        source = made / kit.name
        if kit.root.exists():
            kept.append(kit.name)
            if kit.kind != "site":  # a hospital's kit is the hospital's
                write_kit(replace(read_kit(kit.root), sites=kit.sites, promises=said))
            continue
        kit.root.parent.mkdir(parents=True, exist_ok=True)
        _harden(kit, source, privacy, project)
        if key is not None and kit.kind == "site":
            write_bytes(source / "local" / KEY_FILE, key, private=True)
        shutil.move(source, kit.root)
        kits.append(kit)
    shutil.rmtree(made)
    return Prepared(project, tuple(kits), tuple(kept), said)


def _planned(
    project: Project, privacy: Privacy, out: Path, said: tuple[str, ...], bundle: str, sha256: str
) -> list[Kit]:
    """Every kit of a project, those that are there already too."""
    common: dict[str, Any] = {
        "project": project.name,
        "host": project.server.host,
        "port": project.server.port,
        "sites": project.names,
        "bundle": bundle,
        "bundle_sha256": sha256,
        "privacy": project.privacy,
        "heart_beat_timeout_s": project.heart_beat_timeout_s,
        "promises": said,
        "medseg": medseg.__version__,
        "encrypted": privacy.encrypted,
        "setting": privacy,
    }
    server = project.server
    kits = [Kit(out / "server", "server", server.host, server.organisation, **common)]
    kits += [Kit(out / "sites" / one.name, "site", one.name, one.organisation, **common) for one in project.sites]
    kits += [Kit(out / "admins" / one.email, "admin", one.email, one.organisation, **common) for one in project.admins]
    return kits


def _check_kept(planned: list[Kit], privacy: Privacy) -> None:
    """Kits that are there are not written again, so what is promised of this setting would not hold for another's."""
    for kit in planned:
        if kit.root.exists() and not _made_for(read_kit(kit.root), kit, privacy):
            raise UsageError("MS-J073", f"the kit of {kit.name} was made for another privacy setting than {kit.privacy}, "
                             "or changed", file=kit.root,
                             mend="make new kits into a new folder with -o and hand them out again, or take back the "
                             "change of `privacy`")  # fmt: skip


def _made_for(kept: Kit, kit: Kit, privacy: Privacy) -> bool:
    """Whether a kit does what this setting says; where it is a site's, the site may have made it stricter."""
    if kept.setting is not None:
        same = replace(kept.setting, name="") == replace(privacy, name="")  # a file may be renamed
        return same and (kit.kind != "site" or not policy.weakened(kept.local, privacy))
    if (kept.privacy, kept.encrypted) != (kit.privacy, kit.encrypted):
        return False
    if kit.kind != "site":
        return True
    try:  # an older medseg wrote down the name alone, behind which a file may have changed
        return json.loads((kept.local / policy.PRIVACY).read_text(encoding="utf-8")) == privacy_json(privacy)
    except (OSError, ValueError):
        return False


def _harden(kit: Kit, source: Path, privacy: Privacy, project: Project) -> None:
    """Write what the kit allows in place of NVFLARE's defaults, where it was made, so that it appears whole."""
    for name in _SCRIPTS:
        (source / "startup" / name).unlink(missing_ok=True)
    local = source / "local"
    if kit.kind != "admin":
        for name in (policy.RESOURCES, policy.AUTHORIZATION, policy.PRIVACY):
            (local / f"{name}.default").unlink(missing_ok=True)
            (local / f"{name}.sample").unlink(missing_ok=True)
    if kit.kind == "site":
        write_json(local / policy.RESOURCES, policy.site_resources())
        write_json(local / policy.AUTHORIZATION, policy.site_authorization())
        write_json(local / policy.PRIVACY, privacy_json(privacy))
    elif kit.kind == "server":
        write_server_resources(kit, local)
        write_json(local / policy.AUTHORIZATION, policy.server_authorization())
    (source / "readme.txt").unlink(missing_ok=True)
    write_text(source / "README.txt", _readme(kit, project))
    write_kit(replace(kit, root=source))
    source.chmod(_PRIVATE)


def _sites_key(authority: Path) -> bytes:
    """The key of all sites of a project, kept so that sites that join later get the same."""
    path = authority / KEY_FILE
    if not path.is_file():
        write_bytes(path, make_keys().sites, private=True)
    return path.read_bytes()


def write_server_resources(kit: Kit, local: Path | None = None) -> None:
    """Write the server's `resources.json`, whose folders must be absolute: again whenever the kit was moved."""
    content = policy.server_resources(kit.root / "store", kit.heart_beat_timeout_s)
    write_json((local or kit.local) / policy.RESOURCES, content)


def _provision(project: Project, authority: Path) -> Path:
    """Let NVFLARE make keys, certificates and addresses; the folder with one folder for each participant."""
    from nvflare.lighter.constants import CtxKey
    from nvflare.lighter.entity import Participant
    from nvflare.lighter.entity import Project as Theirs
    from nvflare.lighter.impl.cert import CertBuilder
    from nvflare.lighter.impl.static_file import StaticFileBuilder
    from nvflare.lighter.impl.workspace import WorkspaceBuilder
    from nvflare.lighter.provisioner import Provisioner

    server = project.server
    ports = {"fed_learn_port": server.port, "admin_port": server.port}
    participants = [Participant("server", server.host, server.organisation, ports)]
    participants += [Participant("client", site.name, site.organisation, {}) for site in project.sites]
    participants += [Participant("admin", one.email, one.organisation, {"role": one.role}) for one in project.admins]
    builders = [
        WorkspaceBuilder(),
        StaticFileBuilder(config_folder="config", scheme="grpc", require_signed_jobs=True),
        CertBuilder(root_valid_days=project.valid_days),
    ]
    authority.mkdir(parents=True, exist_ok=True)
    _guard(authority)
    heard = _Heard()
    theirs = Theirs(project.name, "medseg", participants=participants, props={"api_version": 3})
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        found = Provisioner(str(authority), builders).provision(theirs, logger=heard)
    if found.get(CtxKey.BUILD_ERROR) or not found.get(CtxKey.CURRENT_PROD_DIR):
        why = heard.errors[-1] if heard.errors else "it gave no reason"
        raise OutputError("MS-J055", f"NVFLARE made no kits: {why}", file=authority,
                          mend="choose an empty folder with -o; valid_days of a project cannot change")  # fmt: skip
    return Path(found[CtxKey.CURRENT_PROD_DIR])


class _Heard:
    """Collects what NVFLARE's provisioning says, instead of printing it."""

    def __init__(self) -> None:
        self.errors: list[str] = []

    def info(self, message: str) -> None:
        """Nothing that anybody needs."""

    debug = warning = info

    def error(self, message: str) -> None:
        """Keep it."""
        self.errors.append(str(message))


def _check_place(project: Project, out: Path) -> None:
    others = [path.name for path in (out / AUTHORITY).glob("*") if path.is_dir() and path.name != project.name]
    if others:
        raise OutputError("MS-J056", f"it holds the kits of another project, {others[0]}", file=out,
                          mend="choose another folder with -o")  # fmt: skip
    strange = [] if (out / AUTHORITY).exists() or not out.exists() else list(out.iterdir())
    if strange:
        raise OutputError("MS-J056", "it holds files that are no kits", file=out,
                          mend="choose an empty folder with -o")  # fmt: skip
    if any(character.isspace() for character in str(out.resolve())):
        raise UsageError("MS-J057", "its path holds a space, at which NVFLARE's commands break apart", file=out,
                         mend="choose a folder without spaces with -o")  # fmt: skip


def _guard(authority: Path) -> None:
    """Let nobody else on this machine read the keys."""
    for path in (authority, *authority.rglob("*")):
        path.chmod(_PRIVATE if path.is_dir() else _SECRET)


def _name(bundle: str | Path) -> str:
    from medseg.bundle.shipped import find_bundle

    return find_bundle(bundle).name


def _readme(kit: Kit, project: Project) -> str:
    does = {
        "site": f"medseg federate join {kit.name} --data FOLDER    (FOLDER holds imagesTr and labelsTr; it is told to nobody)",
        "server": f"medseg federate serve server    (its port {kit.port} must be reachable from the sites as {kit.host})",
        "admin": f"medseg federate submit {kit.name} BUNDLE; medseg federate status {kit.name}; medseg federate abort {kit.name} JOB",
    }[kit.kind]
    return (
        f"medseg: start-up kit of {kit.name} for the project {project.name}.\n\n"
        "It holds a private key (startup/*.key): send it so that nobody else can read it, and keep it so.\n"
        "It needs: pip install 'medseg[federated]'\n\n"
        f"{does}\n"
    )
