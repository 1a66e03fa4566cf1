from __future__ import annotations

import os

from MedSegLib.environment import clean_environment

OF_SLICER = {
    "PYTHONHOME": "/Slicer/lib/Python",
    "PYTHONPATH": "/Slicer/bin/Python",
    "PYTHONNOUSERSITE": "1",
    "LD_LIBRARY_PATH": "/Slicer/lib",
    "QT_PLUGIN_PATH": "/Slicer/lib/QtPlugins",
    "SLICER_HOME": "/Slicer",
    "FORCE_COLOR": "1",
}


def test_without_the_application_all_that_slicer_set_goes():
    path = os.pathsep.join(["/Slicer/bin", "/Slicer", "/Slicer2/bin", "/usr/bin"])
    found = clean_environment({**OF_SLICER, "HOME": "/srv", "PATH": path, "CUDA_VISIBLE_DEVICES": "1"})
    assert not set(OF_SLICER) & set(found)
    assert (found["HOME"], found["CUDA_VISIBLE_DEVICES"]) == ("/srv", "1")
    assert found["PATH"] == os.pathsep.join(["/Slicer2/bin", "/usr/bin"])


def test_the_environment_before_slicer_is_taken_as_it_was_but_for_what_no_other_python_bears():
    startup = {"LD_LIBRARY_PATH": "/opt/cuda/lib", "PYTHONPATH": "/srv/lib", "PYTHONHOME": "/x", "PATH": "/usr/bin"}
    found = clean_environment({**OF_SLICER, "ONLY_NOW": "1"}, startup)
    assert (found["LD_LIBRARY_PATH"], found["PYTHONPATH"], found["PATH"]) == (
        "/opt/cuda/lib",
        "/srv/lib",
        "/usr/bin",
    )
    assert not {"PYTHONHOME", "ONLY_NOW", "FORCE_COLOR"} & set(found)


def test_output_comes_at_once_as_plain_utf8():
    found = clean_environment({"FORCE_COLOR": "1", "PYTHONIOENCODING": "latin-1"})
    assert (found["PYTHONUNBUFFERED"], found["PYTHONUTF8"], found["PYTHONIOENCODING"]) == ("1", "1", "utf-8")
    assert "FORCE_COLOR" not in found
