"""The server's process: NVFLARE's server, ended with the command that started it.

python -m medseg.federated.kits.server_process KIT --organisation ORGANISATION
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from medseg.federated.kits.site_process import close_doors, die_with_parent


def main() -> None:
    """Be the server until somebody ends the process; NVFLARE's exit code."""
    words = argparse.ArgumentParser(description="The server's process; medseg federate serve starts it.")
    words.add_argument("kit", type=Path)
    words.add_argument("--organisation", required=True)
    said = words.parse_args()
    die_with_parent()
    close_doors()

    from nvflare.fuel.f3.mpm import MainProcessMonitor
    from nvflare.private.fed.app.server import server_train

    facts = ["secure_train=true", f"org={said.organisation}", "config_folder=config"]
    given = argparse.Namespace(workspace=str(said.kit), fed_server="fed_server.json", set=facts)
    code = MainProcessMonitor.run(main_func=server_train.main, run_dir=str(said.kit), args=given)
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
