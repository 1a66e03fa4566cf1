"""The public names are a file under review: a change of `medseg`'s surface shows as a change of api_surface.json."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest

import medseg

SURFACE = json.loads(Path(__file__).with_name("api_surface.json").read_text(encoding="utf-8"))


def described(name: str) -> str:
    value = getattr(medseg, name)
    if inspect.isclass(value):
        return f"class {', '.join(base.__name__ for base in value.__bases__)}"
    return str(inspect.signature(value)) if callable(value) else type(value).__name__


def test_the_surface_is_what_was_reviewed():
    assert {name: described(name) for name in medseg.__all__} == SURFACE, "update tests/api_surface.json on purpose"


def test_dir_lists_the_surface():
    assert dir(medseg) == sorted(SURFACE)


@pytest.mark.parametrize("name", [n for n in SURFACE if n != "__version__"])
def test_every_public_name_explains_itself(name):
    assert (inspect.getdoc(getattr(medseg, name)) or "").strip()


def test_every_error_class_is_public():
    errors = [n for n, v in vars(medseg.errors).items() if inspect.isclass(v) and issubclass(v, medseg.MedsegError)]
    assert set(errors) <= set(medseg.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'medseg' has no attribute 'segment_everything'"):
        _ = medseg.segment_everything
