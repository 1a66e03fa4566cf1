"""What an administrator's kit can do: submit a job, look at it, follow it to its end, stop it, fetch what it made.

NVFLARE's own client prints, returns paths where a job failed, and exits with 0; here its states become errors with codes.
"""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from medseg.errors import InputError, OutputError, UsageError
from medseg.federated.installed import require_nvflare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from nvflare.fuel.flare_api.flare_api import Session

    from medseg.federated.kits.kit import Kit

COMPLETED, ABORTED = "FINISHED:COMPLETED", "FINISHED:ABORTED"
#: What a completed training leaves: the model of all sites, and a line a round.
GLOBAL, ROUNDS = "global", "rounds.jsonl"
_EVERY_S = 2.0
_FAILED = "the training failed"
#: What `MedsegController` writes into the job's log on the server.
_SAID = re.compile(
    r"^\S+ \S+ - MedsegController - [A-Z]+ - (?:\[[^\]]*\] - )?((?:round |the training failed).*)$", re.MULTILINE
)
#: What the other ends mean, for a person.
_MEANING = {
    "FINISHED:EXECUTION_EXCEPTION": "it failed",
    "FINISHED:ABNORMAL": "it failed: its process on the server died",
    "FINISHED:CAN_NOT_SCHEDULE": "it never began: not enough sites were connected and free",
    "FINISHED:FAILED_TO_RUN": "it never began: sites refused it or did not answer",
    "FINISHED:ABANDONED": "it was abandoned when the server was started again",
}


@dataclass(frozen=True)
class Job:
    """One job, as the server knows it.

    Args:
        id: of it.
        name: of the job folder.
        status: NVFLARE's word, such as RUNNING or FINISHED:COMPLETED.
        submitted: when.
        seconds: how long it has run, as NVFLARE writes it.
        told: what the server says of its deployment to each site.
    """

    id: str
    name: str
    status: str
    submitted: str = ""
    seconds: str = ""
    told: tuple[str, ...] = ()

    @property
    def ended(self) -> bool:
        """Whether it will not change any more."""
        return self.status.startswith("FINISHED")


@dataclass(frozen=True)
class State:
    """What the server says of itself.

    Args:
        sites: name -> seconds since it was last heard of.
        jobs: newest first.
    """

    sites: dict[str, float]
    jobs: tuple[Job, ...]


@contextmanager
def session(kit: Kit) -> Iterator[Session]:
    """Speak to the server.

    Raises:
        MissingExtraError: MS-J053 NVFLARE is not installed.
        InputError: MS-J064 the server does not answer; MS-J065 it does not accept this kit.
        UsageError: MS-J066 the server does not allow it; MS-J067 it knows no such job.
    """
    require_nvflare()
    from nvflare.fuel.flare_api import api_spec
    from nvflare.fuel.flare_api.flare_api import new_secure_session

    opened: Session | None = None
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            with contextlib.chdir(kit.local):  # it looks for files of a name in every folder below the current one
                opened = new_secure_session(kit.name, str(kit.root), timeout=10.0)
            yield opened
        except api_spec.NoConnection as error:
            raise InputError("MS-J064", f"the server does not answer at {kit.host}:{kit.port}", file=kit.root,
                             mend="is medseg federate serve running there, and the port open?") from error  # fmt: skip
        except api_spec.AuthenticationError as error:
            raise InputError("MS-J065", f"the server does not accept this kit ({error})", file=kit.root,
                             mend="ask the coordinator for a new kit") from error  # fmt: skip
        except api_spec.AuthorizationError as error:
            raise UsageError("MS-J066", f"the server does not allow it to {kit.name}", file=kit.root,
                             mend="a job is stopped and fetched by whoever submitted it; members only look on") from error  # fmt: skip
        except (api_spec.JobNotFound, api_spec.JobNotRunning) as error:
            raise UsageError("MS-J067", f"the server knows no such job, or it does not run any more ({error})",
                             mend="medseg federate status KIT lists the jobs") from error  # fmt: skip
        finally:
            if opened is not None:
                with contextlib.suppress(Exception):
                    opened.close()


def submit(speaking: Session, folder: Path) -> str:
    """Submit a job folder; the job's id.

    Raises:
        InputError: MS-J068 the server does not take it.
    """
    from nvflare.fuel.flare_api.api_spec import InternalError, InvalidJobDefinition

    try:
        return speaking.submit_job(str(folder.resolve()))
    except (InvalidJobDefinition, InternalError) as error:
        raise InputError("MS-J068", f"the server does not take this job ({error})", file=folder,
                         mend="submit a job that medseg federate submit made, unchanged") from error  # fmt: skip


def state(speaking: Session) -> State:
    """What the server says of itself."""
    found = speaking.get_system_info()
    now = time.time()
    sites = {one.name: max(0.0, now - float(one.last_connect_time or now)) for one in found.client_info}
    jobs = [_job(meta) for meta in speaking.list_jobs(detailed=True, reverse=True)]
    return State(dict(sorted(sites.items())), tuple(jobs))


def look(speaking: Session, job: str) -> Job:
    """One job."""
    return _job(speaking.get_job_meta(job))


def follow(speaking: Session, job: str, tell: Callable[[str], object]) -> Job:
    """Wait for a job's end; `tell` hears each change of its status, and what the server says of its rounds."""
    status, heard = "", 0
    while True:
        found = look(speaking, job)
        if found.status != status:
            status = found.status
            tell(f"{found.id} {found.name}: {status}")
        lines = said(speaking, job)
        for line in lines[heard:]:
            tell(line)
        heard = max(heard, len(lines))
        if found.ended:
            return found
        time.sleep(_EVERY_S)


def said(speaking: Session, job: str) -> list[str]:
    """What the server's side of a job has said so far: a line a round, and one for every site that was missing in it."""
    from nvflare.fuel.flare_api.api_spec import InternalError

    try:
        text = str(speaking.get_job_logs(job, "server")["logs"].get("server", ""))
    except (InternalError, KeyError):  # there is none yet
        return []
    return [match.group(1).strip() for match in _SAID.finditer(text)]


def require_completed(job: Job, lines: Sequence[str] = ()) -> None:
    """Let a job pass that came to its end.

    Args:
        job: that ended, or goes on.
        lines: what the server's side of it `said`.

    Raises:
        InputError: MS-J062 it failed, MS-J063 it was stopped.
    """
    if job.status == COMPLETED or not job.ended:
        return
    if job.status == ABORTED:
        raise InputError("MS-J063", f"job {job.id} was stopped before its end",
                         mend="submit it again; with --resume it goes on from its last round")  # fmt: skip
    told = "; ".join(
        [one for one in job.told if not one.endswith(": OK")] + [one for one in lines if _FAILED in one][-1:]
    )
    raise InputError("MS-J062", f"job {job.id}: {_MEANING.get(job.status, job.status)}{told and f' ({told})'}",
                     mend="what each site says of it stands in the error_log.txt of its own kit")  # fmt: skip


def abort(speaking: Session, job: str) -> None:
    """Stop a job at the server and at every site."""
    speaking.abort_job(job)


def fetch(speaking: Session, job: str, out: Path) -> Path:
    """Get what a job made on the server; its folder in `out`."""
    out.mkdir(parents=True, exist_ok=True)
    return Path(speaking.download_job_result(job, str(out.resolve())))


def fetch_model(speaking: Session, job: str, out: Path) -> Path:
    """Get the model of all sites, a bundle, and the table of the rounds, `rounds.jsonl`, into `out`.

    Raises:
        OutputError: MS-J071 there is a model in `out` already.
        InputError: MS-J072 the job left none.
    """
    target = out / GLOBAL
    if target.exists():
        raise OutputError("MS-J071", "there is a model already", file=target, mend="name another folder with -o")
    with TemporaryDirectory() as folder:
        found = next((path for path in sorted(fetch(speaking, job, Path(folder)).rglob(GLOBAL)) if path.is_dir()), None)
        if found is None:
            raise InputError("MS-J072", f"job {job} left no model on the server",
                             mend="a job that failed has none; medseg federate status KIT JOB says why")  # fmt: skip
        out.mkdir(parents=True, exist_ok=True)
        shutil.move(found, target)
        shutil.move(found.with_name(ROUNDS), out / ROUNDS)
    return target


def _job(meta: dict[str, Any]) -> Job:
    told = meta.get("job_deploy_detail") or ()
    return Job(
        str(meta.get("job_id", "")),
        str(meta.get("name") or meta.get("job_name") or ""),
        str(meta.get("status", "")),
        str(meta.get("submit_time_iso") or meta.get("submit_time") or ""),
        str(meta.get("duration", "")),
        tuple(map(str, told)),
    )
