"""NVFLARE's own job runner waits for no site's outcome once the widget has heard of the job; whole jobs: test_loopback.py."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from nvflare.apis.client import Client
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import FLContextKey, ReservedKey, RunProcessKey
from nvflare.apis.fl_context import FLContext
from nvflare.private.fed.server.job_runner import JobRunner

from medseg.federated.kits.outcomes import QuorumDecides


@pytest.fixture
def runner():
    """A job of two sites that has just started, as `JobRunner._start_run` leaves it."""
    found = JobRunner("workspace")
    found._pending_client_outcomes["17"] = {"site-1", "site-2"}
    return found


def heard(runner, event: str, job: str = "17") -> None:
    participants = {f"token-{n}": Client(f"site-{n}", f"token-{n}") for n in (1, 2)}
    processes = {"17": {RunProcessKey.PARTICIPANTS: participants}}
    context = FLContext()
    engine = SimpleNamespace(run_processes=processes, job_runner=runner, fire_event=lambda *_: None)
    context.set_prop(ReservedKey.ENGINE, engine, private=True, sticky=False)
    context.set_prop(FLContextKey.EVENT_DATA, {"job_id": job}, private=True, sticky=False)
    QuorumDecides().handle_event(event, context)


def test_no_site_is_waited_for_once_the_job_has_started(runner):
    assert runner.is_client_outcome_pending("17", "site-1")
    heard(runner, EventType.JOB_STARTED)
    assert not runner.is_client_outcome_pending("17", "site-1")
    assert not runner.is_client_outcome_pending("17", "site-2")


def test_the_job_stays_known_so_that_no_site_is_told_to_abort_it(runner):
    heard(runner, EventType.JOB_STARTED)
    assert runner.get_client_outcome_jobs() == {"17"}


@pytest.mark.parametrize(("event", "job"), [(EventType.JOB_DEPLOYED, "17"), (EventType.JOB_STARTED, "18")])
def test_other_events_and_other_jobs_change_nothing(runner, event, job):
    heard(runner, event, job)
    assert runner.is_client_outcome_pending("17", "site-1")
