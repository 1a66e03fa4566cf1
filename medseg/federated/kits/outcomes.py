"""Whether a job came to its end is decided by the rounds' quorum alone, not by how each site's process ended.

NVFLARE 2.9's server fails a finished job where one site's process died, reported an exception, or registered anew (it
waits up to 900 s for an "outcome" of every site that the job began with, and takes a missing one for an infrastructure
error). A site that is killed or restarted must not cost the others their training: `MedsegController` counts whose
updates came, and fails below the quorum. So this widget of the server's own configuration tells the job runner, as soon
as a job has started, that no site's outcome is waited for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import FLContextKey, RunProcessKey
from nvflare.widgets.widget import Widget

if TYPE_CHECKING:
    from nvflare.apis.fl_context import FLContext


class QuorumDecides(Widget):
    """A widget of the server's parent process: a site's outcome fails no job."""

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Of a job that has just started, resolve the outcome of every site."""
        if event_type != EventType.JOB_STARTED:
            return
        job = (fl_ctx.get_prop(FLContextKey.EVENT_DATA) or {}).get("job_id")
        engine = fl_ctx.get_engine()
        process = getattr(engine, "run_processes", {}).get(job)
        if engine is None or process is None:
            self.log_warning(fl_ctx, f"job {job} has started, but nothing runs under that name")
            return
        for client in process[RunProcessKey.PARTICIPANTS].values():
            engine.job_runner.resolve_client_outcome(job, client.name)
