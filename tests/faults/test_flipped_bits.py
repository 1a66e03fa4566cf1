"""One bit flipped in an output, a record or the weights is found, and its file named: 50 of 50."""

from __future__ import annotations

import random

import pytest

from medseg.errors import RecordError
from medseg.workflows.verify import verify
from tests.workflows.recorded_run import make


@pytest.fixture(scope="module")
def made(toy_bundle, tmp_path_factory):
    return make(toy_bundle, tmp_path_factory.mktemp("flipped"), uncertainty="tta", dicom="binary")


def named(made) -> list[str]:
    """What verify names: files below OUT or, of a bundle, behind its name; the record of the run is refused itself."""
    try:
        report = verify(made.out, bundle=made.bundle)
    except RecordError as error:
        return [f"refused {error.file}"]
    inside = f"{made.bundle.name}/"
    return [f.file if f.file.startswith(inside) else str(made.out / f.file) for f in report.findings]


def test_50_flipped_bits_are_50_findings(made, count):
    chance = random.Random(8)
    records = sorted(made.out.rglob("record.json"))
    outputs = [path for path in made.files() if path not in records]
    weights = sorted(path for path in made.bundle.rglob("*") if path.is_file())
    chosen = [
        *(outputs[n % len(outputs)] for n in range(max(30, len(outputs)))),
        *(records[n % len(records)] for n in range(10)),
        *(weights[n % len(weights)] for n in range(10)),
    ]
    assert named(made) == []
    found = 0
    for path in chosen:
        content = path.read_bytes()
        flipped = bytearray(content)
        bit = chance.randrange(8 * len(content))
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        name = path.relative_to(made.place).as_posix() if path in weights else str(path)
        name = f"refused {name}" if path == made.record() else name
        assert named(made) == [name], f"bit {bit} of {path.name}"
        found += 1
        path.write_bytes(content)
    assert named(made) == []
    assert found >= 50
    count("flipped bits", found, len(chosen), f"found and named; {len(outputs)} kinds of output among them")
