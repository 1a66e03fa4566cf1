"""A server and sites as processes of their own on this machine, over real gRPC with mutual TLS."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import psutil

from medseg.federated.kits.join import write_site_file
from medseg.federated.kits.kit import read_kit
from medseg.federated.kits.prepare import prepare
from medseg.federated.kits.site_process import die_with_parent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

#: Short rounds; a site that is missing is waited for no longer than this.
DEADLINE_S, GRACE_S = 120, 5


class Federation:
    """Processes, by the name of whose they are."""

    def __init__(self, root: Path, bundle: Path, data: dict[str, Path]) -> None:
        self.root, self.data = root, data
        self.kits = root / "made"
        self.lead = self.kits / "admins" / "lead@example.org"
        self.bundles = {name: shutil.copytree(bundle, root / name / bundle.name) for name in data}
        self.bundle = bundle
        self.running: dict[str, subprocess.Popen] = {}

    def site(self, name: str) -> Path:
        return self.kits / "sites" / name

    def start(self, name: str, *words: str) -> None:
        with (self.root / f"{name}.txt").open("ab") as told:
            self.running[name] = subprocess.Popen(
                [sys.executable, "-u", "-m", *words], cwd=self.root, stdout=told, stderr=told, start_new_session=True,
                preexec_fn=die_with_parent,  # pytest may be killed too
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )  # fmt: skip

    def serve(self) -> None:
        self.start("server", "medseg", "federate", "serve", str(self.kits / "server"), "-b", str(self.bundle))
        port = read_kit(self.kits / "server").port
        wait_for(lambda: socket.create_connection(("localhost", port), 1).close() or True)

    def join(self, name: str) -> None:
        """By the command, which looks first and begins again what dies."""
        words = ["--data", str(self.data[name]), "-b", str(self.bundles[name])]
        self.start(name, "medseg", "federate", "join", str(self.site(name)), *words)

    def be(self, name: str) -> None:
        """By the command's process alone: what is killed stays dead."""
        kit = read_kit(self.site(name))
        write_site_file(kit, self.data[name], self.bundles[name])
        words = ["--name", name, "--organisation", kit.organisation]
        self.start(name, "medseg.federated.kits.site_process", str(kit.root), *words)

    def family(self, name: str) -> list[psutil.Process]:
        process = psutil.Process(self.running[name].pid)
        return [*process.children(recursive=True), process]

    def kill(self, name: str, *, only_nvflare: bool = False) -> list[psutil.Process]:
        """As when the machine dies: SIGKILL to all of it; or to all but the command that begins it again."""
        family = self.family(name)[: -1 if only_nvflare else None]
        _kill(family)
        if not only_nvflare:
            self.running.pop(name).wait(10)
        return family

    def asked(self, *words: str, timeout: float = 400.0) -> tuple[int, dict, str]:
        """A command of the lead: its exit code, its JSON, what it told."""
        done = subprocess.run(
            [sys.executable, "-m", "medseg", "federate", words[0], str(self.lead), *words[1:], "--json"],
            cwd=self.root, capture_output=True, text=True, check=False, timeout=timeout,
        )  # fmt: skip
        return done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr

    def submitted(self, run: str, *words: str, rounds: int = 2, quorum: int = 2, steps: int = 8) -> subprocess.Popen:
        """A training begun and followed by `medseg federate submit --wait`."""
        algorithm = self.root / f"{run}.yaml"
        algorithm.write_text(
            f"rounds: {rounds}\nlocal_steps: {steps}\nlocal_epochs: null\nquorum: {quorum}\n"
            f"deadline_s: {DEADLINE_S}\ngrace_s: {GRACE_S}\nvalidate_every: 10\n",
            encoding="utf-8",
        )
        words = (str(self.lead), str(self.bundle), "-n", run, "--algorithm", str(algorithm), "--wait", "--json", *words)
        return subprocess.Popen(
            [sys.executable, "-m", "medseg", "federate", "submit", *words],
            cwd=self.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def connected(self, *names: str) -> None:
        wait_for(lambda: set(self.asked("status")[1].get("sites", ())) >= set(names), 90)

    def training(self, name: str, run: str) -> Callable[[], bool]:
        return (self.site(name) / "medseg_work" / run / "progress.json").exists

    def rounds(self, run: str) -> list[dict]:
        path = self.kits / "server" / "medseg_results" / run / "rounds.jsonl"
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    def job_processes(self) -> list[psutil.Process]:
        """Of any job of this federation, whoever began them."""
        found = []
        for one in psutil.process_iter(["cmdline"]):
            words = " ".join(one.info["cmdline"] or ())
            if str(self.root) in words and ("worker_process" in words or "runner_process" in words):
                found.append(one)
        return found


def _kill(family: Sequence[psutil.Process]) -> None:
    """And wait until all of them are dead; one may die by itself meanwhile."""
    for one in family:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(family, timeout=10)


def wait_for(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    """Until a condition holds; what is not there yet is no error."""
    end = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except OSError:
            pass
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)


def ended(process: subprocess.Popen) -> tuple[int, dict, str]:
    """The exit code of a command that was begun, its JSON, what it told."""
    out, told = process.communicate(timeout=400)
    return process.returncode, json.loads(out) if out else {}, told


@contextmanager
def federated(
    root: Path, bundle: Path, data: dict[str, Path], *, joined: Sequence[str] = (), more: str = ""
) -> Iterator[Federation]:
    """All of them, connected; killed in the end, with whatever job still runs.

    Args:
        root: a folder of their own.
        bundle: that the project agrees on.
        data: site -> scans.
        joined: sites that are begun by `medseg federate join`.
        more: lines of the project.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    sites = "".join(f"  - {{name: {name}, organisation: hospital_{n}}}\n" for n, name in enumerate(data, 1))
    (root / "project.yaml").write_text(
        f"name: cubes\nserver: {{host: localhost, port: {port}, organisation: uni}}\nsites:\n{sites}"
        "admins:\n  - {email: lead@example.org, organisation: uni}\n"
        f"  - {{email: member@example.org, organisation: uni, role: member}}\nheart_beat_timeout_s: 30\n{more}",
        encoding="utf-8",
    )
    prepare(root / "project.yaml", root / "made", bundle=bundle)
    found = Federation(root, bundle, data)
    try:
        found.serve()
        for name in data:
            (found.join if name in joined else found.be)(name)
        found.connected(*data)
        yield found
    finally:
        left = [one for name in list(found.running) for one in found.family(name)] + found.job_processes()
        _kill(left)
