"""A site's process: NVFLARE's client with the doors closed through which a server could reach the hospital's files.

    python -m medseg.federated.kits.site_process KIT --name NAME --organisation ORGANISATION

NVFLARE 2.9's client answers `cat`, `grep`, `ls`, `head` and `tail` with any path of the machine: that the path lies in
the workspace is checked by the server alone, and whether the asker may do so is looked up only where the server's message
asks for it. A role called `super` is let through without a look at the site's policy. So a server in wrong hands could
read any file, or send code. Here the client knows the requests of a job's life and no others, and `super` nothing.
"""

from __future__ import annotations

import argparse
import ctypes
import signal
import sys
from contextlib import suppress
from pathlib import Path

#: What the server may ask of a site: to look whether there is room, take a job, begin it, end it. NVFLARE's class names.
ANSWERED = frozenset(
    {
        "ClientStatusProcessor",
        "ScopeInfoProcessor",
        "CheckResourceProcessor",
        "CancelResourceProcessor",
        "DeployProcessor",
        "StartJobProcessor",
        "NotifyJobStatusProcessor",
        "AbortTaskProcessor",
        "AbortAppProcessor",
        "ReportVersionProcessor",
    }
)
_DIE_WITH_PARENT = 1  # Linux: PR_SET_PDEATHSIG


def close_doors() -> None:
    """Take every request from NVFLARE's client that is not `ANSWERED`, and its way around the site's policy."""
    from nvflare.fuel.sec.authz import Authorizer
    from nvflare.private.fed.client.client_req_processors import ClientRequestProcessors

    known = ClientRequestProcessors.request_processors
    ClientRequestProcessors.request_processors = [one for one in known if type(one).__name__ in ANSWERED]
    usual = Authorizer.authorize

    def authorize(self, ctx):
        if ctx and ctx.user.role == "super":
            return False, "the role super has no rights at this site"
        return usual(self, ctx)

    Authorizer.authorize = authorize


def die_with_parent() -> None:
    """Ask Linux to end this process when the one that started it ends, however that was; elsewhere nothing."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None, use_errno=True).prctl(_DIE_WITH_PARENT, signal.SIGTERM)


def main() -> None:
    """Be the site until somebody ends the process; NVFLARE's exit code."""
    words = argparse.ArgumentParser(description="A site's process; medseg federate join starts it.")
    words.add_argument("kit", type=Path)
    words.add_argument("--name", required=True)
    words.add_argument("--organisation", required=True)
    said = words.parse_args()
    die_with_parent()
    close_doors()

    from nvflare.fuel.f3.mpm import MainProcessMonitor
    from nvflare.private.fed.app.client import client_train

    facts = [
        f"uid={said.name}",
        f"org={said.organisation}",
        "secure_train=true",
        "config_folder=config",
        "heart_beat_interval=5",
    ]
    given = argparse.Namespace(workspace=str(said.kit), fed_client="fed_client.json", set=facts, local_rank=0)
    code = MainProcessMonitor.run(main_func=client_train.main, run_dir=str(said.kit), args=given)
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
