"""A job carries names and plain values; nothing that runs, no place."""

from __future__ import annotations

import json

import pytest

from medseg.errors import OutputError, UsageError
from medseg.federated.algorithm import load_algorithm
from medseg.federated.bundle_hash import bundle_hash
from medseg.federated.job import CONTROLLER, EXECUTOR, job_folder


def files_of(job):
    return {
        path.relative_to(job).as_posix(): json.loads(path.read_text(encoding="utf-8")) for path in job.rglob("*.json")
    }


def test_three_files_of_names_and_plain_values(small_recipe, tmp_path):
    how = load_algorithm("fedprox", quorum=3)
    job = job_folder(tmp_path, small_recipe, how, run="liver-1", overrides={"learning_rate": 0.01})
    found = files_of(job)
    assert sorted(path.relative_to(job).as_posix() for path in job.rglob("*") if path.is_file()) == sorted(found)
    assert sorted(found) == ["app/config/config_fed_client.json", "app/config/config_fed_server.json", "meta.json"]
    server, client = found["app/config/config_fed_server.json"], found["app/config/config_fed_client.json"]
    (workflow,), (executor,) = server["workflows"], client["executors"]
    assert workflow["path"] == CONTROLLER
    assert executor["executor"]["path"] == EXECUTOR
    assert executor["executor"]["args"]["bundle_hash"] == bundle_hash(small_recipe)
    assert executor["executor"]["args"]["overrides"] == {"learning_rate": 0.01}
    assert executor["executor"]["args"]["algorithm"] == workflow["args"]["algorithm"] == how.to_json()
    assert found["meta.json"]["min_clients"] == 3
    assert "byoc" not in json.dumps(found).lower()
    assert str(small_recipe.parent) not in json.dumps(found)
    assert client["task_result_filters"] == []


def test_nvflares_own_validator_takes_it(small_recipe, tmp_path):
    from nvflare.fuel.utils.zip_utils import zip_directory_to_bytes
    from nvflare.private.fed.server.job_meta_validator import JobMetaValidator

    job = job_folder(tmp_path, small_recipe, load_algorithm("fedavg"), run="run")
    valid, error, meta = JobMetaValidator().validate("run", zip_directory_to_bytes(str(tmp_path), "run"))
    assert (valid, error) == (True, "")
    assert not meta.get("byoc")
    assert job.name == "run"


def test_what_cannot_travel_is_refused_before_anything_is_written(small_recipe, tmp_path):
    how = load_algorithm("fedavg")
    with pytest.raises(UsageError, match="MS-J015"):
        job_folder(tmp_path, small_recipe, how, run="run", overrides={"loss": "$1"})
    with pytest.raises(UsageError, match="MS-J019"):
        job_folder(tmp_path, small_recipe, how, run="../run")
    assert list(tmp_path.iterdir()) == []
    job_folder(tmp_path, small_recipe, how, run="run")
    with pytest.raises(OutputError, match="MS-J017"):
        job_folder(tmp_path, small_recipe, how, run="run")
