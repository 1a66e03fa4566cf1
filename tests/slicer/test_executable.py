from __future__ import annotations

import pytest
from MedSegLib.errors import MedSegError
from MedSegLib.executable import find_medseg


def program(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def test_setting_goes_before_variable_and_path(tmp_path):
    setting, variable, path = (program(tmp_path / place / "medseg") for place in ("a ä", "b", "c"))
    environ = {"MEDSEG_EXECUTABLE": str(variable), "PATH": str(path.parent)}
    assert find_medseg(str(setting), environ) == [str(setting)]
    assert find_medseg("", environ) == [str(variable)]
    assert find_medseg("  ", {"PATH": str(path.parent)}) == [str(path)]


@pytest.mark.parametrize("name", ["python", "python3", "python3.12", "Python.exe", "pythonw.exe"])
def test_an_interpreter_runs_medseg_as_a_module_and_its_link_is_not_followed(tmp_path, name):
    real = program(tmp_path / "usr" / "python3.12")
    link = tmp_path / "venv" / name
    link.parent.mkdir()
    link.symlink_to(real)
    assert find_medseg(str(link), {}) == [str(link), "-m", "medseg"]


def test_another_program_is_medseg_itself(tmp_path):
    path = program(tmp_path / "python-medseg")
    assert find_medseg(str(path), {}) == [str(path)]


@pytest.mark.parametrize("place", ["bin/medseg", "Scripts/medseg.exe", "medseg"])
def test_the_folder_of_an_environment(tmp_path, place):
    path = program(tmp_path / "env" / place)
    assert find_medseg(str(tmp_path / "env"), {}) == [str(path)]


def test_what_was_named_is_never_replaced_by_another(tmp_path):
    found = program(tmp_path / "medseg")
    environ = {"PATH": str(found.parent)}
    with pytest.raises(MedSegError, match="named in the settings does not exist"):
        find_medseg(str(tmp_path / "gone"), environ)
    with pytest.raises(MedSegError, match=r"named in \$MEDSEG_EXECUTABLE does not exist"):
        find_medseg("", {**environ, "MEDSEG_EXECUTABLE": str(tmp_path / "gone")})
    (tmp_path / "empty").mkdir()
    with pytest.raises(MedSegError, match="holds no medseg"):
        find_medseg(str(tmp_path / "empty"), environ)


def test_a_file_that_is_no_program_and_nothing_at_all(tmp_path):
    text = tmp_path / "medseg.txt"
    text.write_text("x")
    with pytest.raises(MedSegError, match="is not a program"):
        find_medseg(str(text), {})
    with pytest.raises(MedSegError, match="no medseg on the PATH") as caught:
        find_medseg("", {"PATH": str(tmp_path)})
    assert "pip install medseg" in str(caught.value)
