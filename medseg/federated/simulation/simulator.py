"""The process of a simulation: NVFLARE's simulator with a server and a process for every site, on one machine.

    python -m medseg.federated.simulation.simulator SPEC.json

SPEC names the job, the workspace and what each participant's own `local/medseg_site.yaml` says. NVFLARE gives all
simulated sites one `local/`; here each has its own, as in reality. It also empties the workspace whenever it starts, so
what a site writes down of its messages lies in the site's own folder.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from nvflare.apis.fl_constant import FLMetaKey
from nvflare.app_common.widgets.component_path_authorizer import CLASS_ALLOW_LIST
from nvflare.private.fed.app.simulator.simulator_runner import SimulatorClientRunner, SimulatorRunner

from medseg.federated.kits.policy import JOB_CLASSES
from medseg.federated.privacy import manifest
from medseg.federated.privacy.ledger import LEDGER
from medseg.federated.privacy.sealing import KEY_FILE
from medseg.federated.rounds import LOST
from medseg.federated.site_file import FILE
from medseg.writers.atomic import write_bytes, write_json, write_text


class Simulator(SimulatorRunner):
    """NVFLARE's runner, with a `local/` for every participant.

    Args:
        spec: 'job', 'workspace' and 'participants', name -> content of its own file.
    """

    def __init__(self, spec: dict[str, Any]) -> None:
        self._files = spec["participants"]
        names = [name for name in self._files if name != "server"]
        # A thread for each site, else NVFLARE starts their processes anew for every task.
        super().__init__(spec["job"], spec["workspace"], clients=",".join(names), threads=len(names))

    def _setup_local_startup(self, log_config_file_path: str, workspace: str) -> None:
        super()._setup_local_startup(log_config_file_path, workspace)
        said = self._files[Path(workspace).name]
        write_text(Path(workspace, "local", FILE), yaml.safe_dump(said, allow_unicode=True))
        own = Path(said["work"]) if said.get("work") else None
        if own is None or Path(workspace).name == "server":
            return
        if (own / KEY_FILE).is_file():
            write_bytes(Path(workspace, "local", KEY_FILE), (own / KEY_FILE).read_bytes(), private=True)
        own.mkdir(parents=True, exist_ok=True)
        for name in (manifest.FILE, LEDGER):
            with suppress(OSError):  # Windows without the right to: they are in the workspace then
                Path(workspace, name).symlink_to(own / name)

    def client_run(self, server_custom_folder: str, clients: list[Any], gpu: str | None) -> None:
        """Run the sites' processes to their end."""
        runner = _Sites(server_custom_folder, self.args, clients, self.client_config, self.deploy_args, self.build_ctx)
        runner.run(gpu)


class _Sites(SimulatorClientRunner):
    """NVFLARE's, which sees when a site's process dies but tells nobody."""

    def do_one_task(self, client: Any, *args: Any, **options: Any) -> tuple[bool, Any, Any]:
        stop, following, ended = super().do_one_task(client, *args, **options)
        if stop and following is None:
            LOST.add(client.client_name)
        return stop, following, ended


def end_with_parent() -> None:
    """End this process when the one that started it is gone, however it ended; NVFLARE's site processes follow."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main(spec: dict[str, Any]) -> int:
    """Run a simulation to its end; 0 where the job did not fail."""
    local = Path(spec["workspace"], "local")
    write_json(local / "resources.json", {"format_version": 2, CLASS_ALLOW_LIST: [*JOB_CLASSES, *spec["classes"]]})
    (Path(spec["workspace"]) / "startup").mkdir(exist_ok=True)
    simulator = Simulator(spec)
    told: dict[str, Any] = {}
    simulator.run_process(told)
    code = Path(spec["workspace"], FLMetaKey.PROCESS_RC_FILE)
    if code.is_file():
        return int(code.read_text(encoding="utf-8").strip() or 1)
    return int(told.get("run_status") or 0)


if __name__ == "__main__":
    end_with_parent()
    sys.exit(main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
