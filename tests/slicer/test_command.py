from __future__ import annotations

from pathlib import Path

import pytest
from MedSegLib.command import Options, checked_uncertainty, predict_command
from MedSegLib.errors import MedSegError

SCAN, OUT = Path("/data/Müller 1/scan.nii.gz"), Path("/out")


def test_the_least_and_the_most():
    least = predict_command(["/bin/medseg"], SCAN, OUT, Options("liver"))
    assert least == ["/bin/medseg", "predict", "/data/Müller 1/scan.nii.gz", "-o", "/out", "-b", "liver", "--json"]
    most = Options("liver", uncertainty="mc:8", device="cpu", outside_domain=True)
    more = predict_command(["/bin/python", "-m", "medseg"], SCAN, OUT, most)
    assert more[:4] == ["/bin/python", "-m", "medseg", "predict"]
    assert more[-5:] == ["--uncertainty", "mc:8", "--device", "cpu", "--outside-domain"]


def test_medseg_itself_understands_the_words():
    """Every option that the module uses is one of `medseg predict`."""
    import typer

    from medseg.cli.app import app

    predict = typer.main.get_command(app).commands["predict"]
    known = {name for parameter in predict.params for name in parameter.opts}
    words = predict_command(["medseg"], SCAN, OUT, Options("liver", "mc:8", "cpu", outside_domain=True))
    assert {word for word in words if word.startswith("-")} <= known


@pytest.mark.parametrize("text", ["mc:2", "mc:16", "tta", "ensemble", "ensemble+tta"])
def test_ways_to_find_uncertainty(text):
    assert checked_uncertainty(text) == text


@pytest.mark.parametrize("text", ["mc", "mc:1", "mc:-4", "mc:4.5", "TTA", "mc:8 --overwrite"])
def test_others_are_refused(text):
    with pytest.raises(MedSegError, match="is no way to find uncertainty"):
        predict_command(["medseg"], SCAN, OUT, Options("liver", uncertainty=text))


def test_without_a_bundle():
    with pytest.raises(MedSegError, match="no bundle is chosen"):
        predict_command(["medseg"], SCAN, OUT, Options(" "))
