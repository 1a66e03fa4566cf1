"""A site's own file."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import yaml

from medseg.errors import InputError
from medseg.federated.site_file import FILE, SiteFile, read_site_file


def test_it_is_read_back(tmp_path):
    said = SiteFile("/scans", "bundle", "work", ("case_1",), held_out=True, look=False)
    (tmp_path / FILE).write_text(yaml.safe_dump(asdict(said) | {"validation": ["case_1"]}), encoding="utf-8")
    assert read_site_file(tmp_path) == said


def test_what_join_writes_is_enough_and_no_file_says_nothing(tmp_path):
    assert read_site_file(tmp_path) == SiteFile()
    (tmp_path / FILE).write_text("data: /scans\nbundle: b\n", encoding="utf-8")
    assert read_site_file(tmp_path) == SiteFile("/scans", "b")


@pytest.mark.parametrize("text", ["- data", "data: [", "dat: /scans", "validation: one", "held_out: 1", "look: no one"])
def test_what_is_not_understood_is_refused(tmp_path, text):
    (tmp_path / FILE).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=f"MS-J014 .*{FILE}"):
        read_site_file(tmp_path)
