"""A start-up kit: what one site, the server or one administrator gets, and what it says about itself.

    KIT/medseg_kit.json         whose it is, where the server is, which bundle was agreed on; nothing secret
    KIT/startup/                NVFLARE's own: address, certificate, private key, the project's root certificate
    KIT/local/                  what this site allows (`policy`); the site's own
    KIT/local/medseg_site.yaml  where the data lies; written by `medseg federate join`

The last of them is read by this site's own processes alone, and never sent.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from medseg.errors import InputError
from medseg.federated.privacy.settings import Privacy, privacy_from
from medseg.writers.atomic import write_json

if TYPE_CHECKING:
    from pathlib import Path

FILE = "medseg_kit.json"
Kind = Literal["site", "server", "admin"]


@dataclass(frozen=True)
class Kit:
    """What a kit says about itself.

    Args:
        root: its folder.
        kind: whose it is: a site's, the server's or an administrator's.
        name: of the site, the server's host, or an e-mail address.
        organisation: of whoever it belongs to.
        project: its name.
        host: of the server.
        port: of the server.
        sites: names of all sites.
        bundle: name of the bundle that was agreed on, '' where none was yet.
        bundle_sha256: its hash (`bundle_hash`), '' where none was yet.
        privacy: what the kit's filters do beside the audit.
        encrypted: the sites' updates leave encrypted, so a job is submitted as one of those.
        setting: what `privacy` meant when the kit was made; None: made before medseg wrote it down.
        heart_beat_timeout_s: a site that has been silent for so long counts as gone.
        promises: what may be said of the project's privacy, one sentence each (`privacy.promises`).
        medseg: version that made the kit.
    """

    root: Path
    kind: Kind
    name: str
    organisation: str
    project: str
    host: str
    port: int
    sites: tuple[str, ...]
    bundle: str = ""
    bundle_sha256: str = ""
    privacy: str = "none"
    heart_beat_timeout_s: int = 60
    promises: tuple[str, ...] = ()
    medseg: str = ""
    encrypted: bool = False
    setting: Privacy | None = None

    @property
    def startup(self) -> Path:
        """Where NVFLARE's own files are."""
        return self.root / "startup"

    @property
    def local(self) -> Path:
        """Where the site's own files are."""
        return self.root / "local"


def write_kit(kit: Kit) -> None:
    """Write what a kit says about itself."""
    said = asdict(kit)
    del said["root"]
    write_json(kit.root / FILE, said)


def read_kit(root: Path, kind: Kind | None = None) -> Kit:
    """Read a kit.

    Args:
        root: its folder.
        kind: whose kit is wanted.

    Raises:
        InputError: MS-J054 no kit, a damaged one, or somebody else's.
    """
    root = root.expanduser().resolve()
    path = root / FILE
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        read: dict[str, Any] = {"sites": tuple(said["sites"]), "promises": tuple(said["promises"])}
        if said.get("setting") is not None:
            setting = dict(said["setting"])
            read["setting"] = privacy_from(setting, setting.pop("name"))
        kit = Kit(root, **{**said, **read})
    except FileNotFoundError:
        raise InputError("MS-J054", f"no start-up kit: {FILE} is missing", file=root,
                         mend="give the folder that the coordinator sent, unpacked") from None  # fmt: skip
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError("MS-J054", f"this start-up kit is damaged ({error})", file=path,
                         mend="ask the coordinator for the kit again") from error  # fmt: skip
    if kind is not None and kit.kind != kind:
        commands = {"site": "medseg federate join", "server": "medseg federate serve",
                    "admin": "medseg federate submit, status or abort"}  # fmt: skip
        raise InputError("MS-J054", f"this is the kit of {_whose(kit.kind)}, not of {_whose(kind)}", file=root,
                         mend=f"it goes with {commands[kit.kind]}")  # fmt: skip
    return kit


def _whose(kind: Kind) -> str:
    return {"site": "a site", "server": "the server", "admin": "an administrator"}[kind]
