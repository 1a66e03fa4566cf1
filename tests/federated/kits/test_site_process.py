"""The doors of NVFLARE's client: what a hostile server could do through them, and that here they are closed.

Each test speaks to NVFLARE's own agent and authoriser as a server would; in a process of its own, for the closing stays.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from medseg.federated.kits.policy import site_authorization
from medseg.federated.kits.site_process import ANSWERED

if TYPE_CHECKING:
    from pathlib import Path

ASK = """
import json, sys
from types import SimpleNamespace
from contextlib import nullcontext
from nvflare.fuel.f3.cellnet.utils import new_cell_message
from nvflare.fuel.sec.audit import AuditService
from nvflare.private.admin_defs import Message
from nvflare.private.defs import SysCommandTopic
from nvflare.private.fed.app.deployer.base_client_deployer import BaseClientDeployer
from nvflare.private.fed.client.admin import FedAdminAgent

if sys.argv[1] == "closed":
    from medseg.federated.kits.site_process import close_doors
    close_doors()
AuditService.initialize(sys.argv[3])
cell = SimpleNamespace(register_request_cb=lambda **_: None)
app = SimpleNamespace(new_context=lambda: nullcontext(SimpleNamespace()))
agent = FedAdminAgent("admin_agent", cell, app)
for processor in BaseClientDeployer().req_processors:
    agent.register_processor(processor)
reply = agent._dispatch_request(new_cell_message({}, Message(SysCommandTopic.SHELL, f"cat {sys.argv[2]}")))
print(json.dumps({"body": str(reply.payload.body), "topics": sorted(agent.processors)}))
"""

SUPER = """
import json, sys
from nvflare.fuel.sec.authz import AuthorizationService, AuthzContext, Person
from nvflare.security.security import FLAuthorizer

if sys.argv[1] == "closed":
    from medseg.federated.kits.site_process import close_doors
    close_doors()
AuthorizationService.initialize(FLAuthorizer("hospital_1", json.loads(sys.argv[2])))
asked = [("super", "byoc"), ("super", "submit_job"), ("lead", "byoc"), ("lead", "submit_job")]
found = [AuthorizationService.authorize(AuthzContext(right, Person("x", "uni", role)))[0] for role, right in asked]
print(json.dumps(found))
"""


def ran(code: str, *words: str):
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def secret(tmp_path) -> Path:
    path = tmp_path / "PATIENT_0815.txt"
    path.write_text("planted-bytes-4711", encoding="utf-8")
    return path


def test_nvflare_itself_answers_cat_of_any_path_to_a_server_that_asks_for_no_authorisation(secret, tmp_path):
    """Why the doors are closed; when NVFLARE mends it, this test says so."""
    assert "planted-bytes-4711" in ran(ASK, "open", str(secret), str(tmp_path / "audit"))["body"]


def test_a_site_of_ours_answers_no_such_request(secret, tmp_path):
    found = ran(ASK, "closed", str(secret), str(tmp_path / "audit"))
    assert found["body"] == "invalid_request"
    assert not [topic for topic in found["topics"] if "shell" in topic or ("sys." in topic and "info" in topic)]


def test_what_is_answered_is_known_to_nvflare_and_enough_for_a_job():
    from nvflare.private.fed.client.client_req_processors import ClientRequestProcessors

    known = {type(one).__name__ for one in ClientRequestProcessors.request_processors}
    assert known >= ANSWERED
    assert {"DeployProcessor", "StartJobProcessor", "AbortAppProcessor"} <= ANSWERED


def test_the_role_super_walks_around_a_sites_policy_in_nvflare_and_not_here():
    policy = json.dumps(site_authorization())
    assert ran(SUPER, "open", policy) == [True, True, False, True]
    assert ran(SUPER, "closed", policy) == [False, False, False, True]
