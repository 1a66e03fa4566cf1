"""`medseg predict` stopped by Ctrl-C and by SIGTERM in the middle of its second case."""

from __future__ import annotations

import json
import os

import pytest

from medseg.workflows.predict import predict
from medseg.workflows.verify import verify
from tests.faults.commands import Command, details, write_scans

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="machine: signals and process groups as POSIX has them"),
]


def told(record: dict) -> dict:
    """A record without what tells of time, and what hangs on that."""
    return {
        key: value for key, value in record.items() if key not in ("created", "seconds", "peak_memory_mb", "digest")
    }


def test_it_keeps_what_is_done_says_so_and_goes_on(toy_bundle, tmp_path, count):
    scans = write_scans(tmp_path / "scans")
    assert predict(scans, toy_bundle, tmp_path / "whole", device="cpu").exit_code == 0
    for name, code in (("ctrl_c", 130), ("terminate", 143)):
        out = tmp_path / name
        command = Command("predict", scans, "-o", out, "-b", toy_bundle, "--device", "cpu")
        command.until("[1/3] a: done in")
        getattr(command, name)()
        assert command.end() == code, command.said
        assert "--resume" in command.said
        assert command.said.rstrip().endswith("interrupted" if code == 130 else "stopped by SIGTERM")
        assert "Traceback" not in command.said

        record = json.loads((out / "record.json").read_text("utf-8"))
        assert (record["state"], record["cases"]) == ("interrupted", {"a": "done"})
        kept = {n: data for n, data in details(tmp_path / "whole").items() if n.startswith("a/")}
        left = details(out)
        assert {n: data for n, data in left.items() if "/" in n} == kept, sorted(left)
        assert set(left) - set(kept) == {"summary.csv", "failures.csv", "index.html"}
        assert verify(out, bundle=toy_bundle).findings == ()

        assert predict(scans, toy_bundle, out, device="cpu", resume=True).exit_code == 0
        assert details(out) == details(tmp_path / "whole")
        for case in "abc":
            both = [json.loads((of / case / "record.json").read_text("utf-8")) for of in (out, tmp_path / "whole")]
            assert told(both[0]) == told(both[1])
        count(f"{code - 128} ({name}) of the command predict", 1, 1, "finished case kept, record true, rerun equal")
