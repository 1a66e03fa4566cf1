"""`medseg federate key FILE`: a key for the sites of a consortium that encrypt their updates, made by one of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medseg.cli.console import show_lines
from medseg.errors import OutputError


def key(
    file: Annotated[Path, typer.Argument(metavar="FILE", show_default=False, help="A new file for the key.")],
) -> None:
    """Make the key with which sites encrypt their updates, where the coordinator, who runs the server, must not have it.

    One site makes it and hands it to the other sites, and to nobody else; each puts it into its kit as
    local/medseg_sites.key, in place of the one that medseg federate prepare made.
    """
    from medseg.federated.privacy.encryption import make_keys
    from medseg.federated.privacy.sealing import KEY_FILE, key_id
    from medseg.writers.atomic import write_bytes

    if file.exists():
        raise OutputError("MS-J148", "there is a file already", file=file, mend="name a new one: a lost key is lost")
    made = make_keys().sites
    write_bytes(file, made, private=True)
    show_lines([f"key {key_id(made)}: {file}", f"each site, and nobody else: copy it to KIT/local/{KEY_FILE}"])
