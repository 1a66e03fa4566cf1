"""One folder of cases, shared by the processes that `torchrun` started: each does its share, the tables are whole.

    torchrun --standalone --nproc-per-node 4 -m medseg predict SCANS -o OUT -b BUNDLE

Process r of n does the cases r, r + n, r + 2 n, ... of the list, on a GPU of its own where there is one. The first one
holds the folder's lock and writes the tables of all; if a process dies, torchrun ends the others, and the same command
with --resume does what is missing.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from datetime import timedelta
from typing import TYPE_CHECKING

from medseg.workflows.lock import WORK, output_lock
from medseg.workflows.outcome import PredictReport
from medseg.workflows.resume import open_folder

if TYPE_CHECKING:
    from medseg.workflows.run import Run

#: One process may wait for another as long as a folder of scans takes.
PATIENCE = timedelta(days=30)


def several() -> bool:
    """Whether torchrun started more than one process; as `training.ranks.launched`, without loading what trains."""
    if "MASTER_ADDR" not in os.environ or os.environ.get("WORLD_SIZE", "1") in ("", "0", "1"):
        return False
    return os.environ.get("RANK", "").isdigit()


def is_first() -> bool:
    """Whether this is the only process, or the one that speaks for all."""
    return not several() or int(os.environ["RANK"]) == 0


def own_device(name: str) -> str:
    """The device of this process where several run: 'auto' and 'cuda' are a GPU of its own; else the name itself."""
    if not several() or name not in ("auto", "cuda"):
        return name
    from medseg.training.ranks import local_device

    found = str(local_device())
    return name if name == "cuda" and found == "cpu" else found


def run_shared(run: Run, *, resume: bool, overwrite: bool) -> PredictReport:
    """Do this process's share of a run, and wait for the others.

    Args:
        run: over all cases; the same in every process.
        resume: do what is missing.
        overwrite: do all again.

    Returns:
        What became of every case in the first process; an empty report, which is no failure, in the others.

    Raises:
        OutputError: see `output_lock` and `open_folder`; in the first process alone, the others end quietly.
    """
    from medseg.training.ranks import first_alone, gathered, joined

    with joined("gloo", PATIENCE) as (rank, count), ExitStack() as stack:

        def begin() -> None:
            stack.enter_context(output_lock(run.out))
            open_folder(run.out, run.fixed, resume=resume, overwrite=overwrite)
            stack.enter_context(run.recorded(resume=resume))

        first_alone(begin)
        run.work = run.out / WORK / f"rank-{rank}"
        run.work.mkdir()
        run.each(range(rank, len(run.cases), count), resume=resume)
        everyone = gathered(run.over)
        if rank == 0:
            run.over = {place: report for share in everyone for place, report in share.items()}
            stack.close()  # writes the tables of all
        return PredictReport(run.out, tuple(run.reports) if rank == 0 else ())
