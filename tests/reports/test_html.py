from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files

import nibabel as nib
import numpy as np
import pytest

from medseg.labels import LabelTable
from medseg.reports.case_view import CaseView
from medseg.reports.html import report_html
from medseg.volume import Source, Volume
from tests.reports.demo_case import demo_case
from tests.reports.test_deface import head, value_at


class Page(HTMLParser):
    """What a browser sees: elements, and the text of scripts by id."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.blocks: dict[str, str] = {}
        self.scripts: list[str] = []
        self.words: list[str] = []
        self._open: str | None = None
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self._open = dict(attrs).get("id", "")

    def handle_endtag(self, tag):
        if tag == "script":
            self._open = None

    def handle_data(self, data):
        if self._open is None:
            self.words.append(data)
        elif self._open:
            self.blocks[self._open] = self.blocks.get(self._open, "") + data
        else:
            self.scripts.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)

    @property
    def case(self) -> dict:
        return json.loads(self.blocks["case"])

    def volume(self, name: str) -> nib.Nifti1Image:
        return nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(self.blocks[f"data-{name}"], validate=True)))


@pytest.mark.parametrize("kind", ["RAS", "LAS", "oblique"])
def test_the_volumes_on_the_page_are_the_case(kind):
    view = demo_case(kind)
    page = Page(report_html(view))
    image, labels = page.volume("image"), page.volume("labels")
    grid = view.image.grid
    where = np.moveaxis(np.indices(image.shape), 0, -1)
    index = np.rint(grid.to_index(nib.affines.apply_affine(image.affine, where))).astype(int)
    assert np.allclose(grid.to_world(index), nib.affines.apply_affine(image.affine, where), atol=1e-3)
    at = tuple(np.moveaxis(index, -1, 0))
    assert np.array_equal(image.get_fdata(), view.image.array[at])
    shown = np.asarray(labels.dataobj)
    for structure in page.case["structures"]:
        value = {"blob": 3, "core & shell": 7, "absent": 9}[structure["name"]]
        assert np.array_equal(np.isin(shown, structure["indices"]), view.segmentation.array[at] == value)
        assert tuple(structure["colour"]) == view.segmentation.labels.by_value[value].colour
    for key, array in view.maps.items():
        made = page.volume(f"map-{key}").get_fdata()
        assert np.abs(made - array[at]).max() <= array.max() / 255
        assert np.allclose(page.volume(f"map-{key}").affine, image.affine)


def test_nothing_can_be_loaded_and_only_our_scripts_run():
    page = Page(report_html(demo_case()))
    policy = next(a["content"] for t, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none';")
    assert "connect-src" not in policy
    digests = {f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in page.scripts}
    assert len(digests) == 2
    assert set(re.findall(r"'sha256-[^']*'", policy)) == digests
    assert not re.search(r"\b(https?:)?//[a-z0-9-]+\.", " ".join([*page.blocks.values(), page.text]))
    for _, attributes in page.tags:
        for name in ("src", "href", "action", "data"):
            value = attributes.get(name) or ""
            assert value.startswith(("data:image/png;base64,", "#")) or not value
        assert not any(name.startswith("on") for name in attributes)
    ours = page.scripts[1] + files("medseg.reports").joinpath("viewer.css").read_text("utf-8")
    assert "http" not in ours


NASTY = '</script><script>alert(1)</script><img src=x onerror="alert(2)">&amp; \u2028 "quoted"'


def test_names_are_text_wherever_they_stand():
    view = demo_case(name=NASTY, warning=NASTY)
    table = LabelTable.from_json([{"value": 3, "name": NASTY}, {"value": 7, "name": "<!--<script>"}])
    rows = [dict(view.rows[0]) | {"structure": NASTY, "flags": NASTY}]
    view = replace(view, segmentation=replace(view.segmentation, labels=table), rows=rows, notes=(NASTY,))
    page = Page(report_html(view))
    assert len(page.scripts) == 2
    assert set(page.blocks) == {
        "case",
        "slices",
        "data-image",
        "data-labels",
        *(f"data-map-{key}" for key in view.maps),
    }
    assert sum(tag == "script" for tag, _ in page.tags) == 2 + 2 + 2 + len(view.maps)
    assert sum(tag == "img" for tag, _ in page.tags) == 1
    assert [s["name"] for s in page.case["structures"]] == [NASTY, "<!--<script>"]
    assert page.text.count(NASTY) >= 4


def test_without_maps_there_are_no_sliders_for_them():
    page = Page(report_html(demo_case(maps=False)))
    ids = {a.get("id") for _, a in page.tags}
    assert "threshold" not in ids
    assert "opacity" not in ids
    assert "Low uncertainty" not in page.text
    assert page.case["maps"] == []
    full = Page(report_html(demo_case()))
    assert {"threshold", "opacity", "fill", "outlines"} <= {a.get("id") for _, a in full.tags}
    assert "Low uncertainty does not mean" in full.text
    assert [(m["key"], m["top"]) for m in full.case["maps"]] == [("entropy", 1.0), ("mutual_information", 0.05)]


def test_warning_and_notes_stand_on_top():
    html = report_html(demo_case(warning="OUTSIDE TRAINING DOMAIN"))
    assert html.index("OUTSIDE TRAINING DOMAIN") < html.index("look at the blob") < html.index("<canvas")


def test_the_page_opens_at_the_structure_of_the_lowest_predicted_dice():
    page = Page(report_html(demo_case()))
    assert page.case["start"] == page.case["structures"][1]["place"]


def noisy(shape: tuple[int, int, int]) -> CaseView:
    """A noisy trunk with a large structure, a small one, and an uncertainty that does not pack."""
    rng = np.random.default_rng(0)
    i, j, k = shape
    noise = rng.integers(-40, 40, (i, j, 10), dtype=np.int16)
    image = np.full(shape, -1000, np.int16)
    inside = (slice(i // 8, -i // 8), slice(j // 5, -j // 5))
    for start in range(0, k, 10):
        image[(*inside, slice(start, start + 10))] = 40 + noise[inside]
    labels = np.zeros(shape, np.uint8)
    labels[i // 5 : -i // 5, j // 4 : -j // 4, 5:-5] = 1
    labels[i // 2, j // 2, k // 2] = 2
    entropy = np.zeros(shape, np.float32)
    entropy[i // 5 : i // 5 + 4] = rng.random((4, j, k), dtype=np.float32)
    affine = np.diag([-0.8, -0.8, 1.0, 1.0])
    return CaseView("large", Volume(image, affine), Volume(labels, affine), {"entropy": entropy})


@pytest.mark.parametrize(
    ("shape", "limit_mb"),
    [((160, 160, 100), 4.0), ((160, 160, 100), 3.2), pytest.param((512, 512, 300), 25.0, marks=pytest.mark.slow)],
)
def test_a_large_scan_stays_below_the_limit(shape, limit_mb):
    page = report_html(noisy(shape), limit_mb=limit_mb)
    assert len(page.encode()) <= limit_mb * 1e6
    assert "larger than the scan" in page
    shown = np.asarray(Page(page).volume("labels").dataobj)
    assert set(np.unique(shown)) == {0, 1, 2}
    assert len(page.encode()) > 0.4 * limit_mb * 1e6, "and does not throw away more than it must"


def test_a_head_is_told_and_masked_when_asked():
    image = head()
    labels = np.zeros(image.array.shape, np.uint8)
    labels[50:60, 60:70, 80:90] = 1
    view = CaseView("h", image, Volume(labels, image.affine))
    told = Page(report_html(view))
    assert "a face can be recognised" in told.text
    assert "--deface-report" in told.text
    masked = Page(report_html(view, deface=True))
    assert "not a guarantee" in masked.text
    for page, there in ((told, True), (masked, False)):
        shown = page.volume("image")
        values = np.pad(shown.get_fdata(), 20)  # the air around is left out
        moved = shown.affine @ np.block([[np.eye(3), np.full((3, 1), -20)], [np.eye(4)[3:]]])
        assert (value_at(Volume(values, moved), 0, 108, -20) > 700) == there
    still = [next(a["src"] for t, a in p.tags if t == "img") for p in (told, masked)]
    assert still[0] != still[1], "the still picture is masked too"
    assert view.image is image


def test_masking_where_no_head_is_recognised_says_so():
    text = Page(report_html(demo_case(), deface=True)).text
    assert "nothing was masked" in text
    assert "face can be recognised" not in Page(report_html(demo_case())).text


def test_ct_has_its_windows():
    view = demo_case()
    ct = replace(
        view, image=Volume((view.image.array - 1000).astype(np.int16), view.image.affine, Source(modality="CT"))
    )
    page = Page(report_html(ct))
    assert page.case["unit"] == "HU"
    assert page.case["window"] == [-160.0, 240.0]
    assert "Lung (-600/1500)" in page.text
    assert Page(report_html(view)).case["unit"] == ""
    odd = replace(view, image=replace(view.image, source=Source(modality="CT")))
    assert Page(report_html(odd)).case["window"][1] > 300, "stored without its intercept"


def test_an_empty_label_map_and_an_empty_image():
    nothing = Volume(np.zeros((9, 8, 7), np.int16), np.eye(4))
    page = Page(report_html(CaseView("x", nothing, nothing)))
    assert page.case["start"] is None
    assert page.case["structures"] == []
    assert "The label map is empty" in page.text


def test_shapes_that_differ_are_refused():
    view = demo_case()
    with pytest.raises(ValueError, match="grid"):
        report_html(replace(view, maps={"entropy": np.zeros((2, 2, 2), np.float32)}))


def test_one_case_gives_one_page():
    assert report_html(demo_case()) == report_html(demo_case())


def test_the_vendored_viewer_is_the_one_its_readme_names():
    folder = files("medseg.reports").joinpath("niivue")
    digest = hashlib.sha256(folder.joinpath("niivue.umd.js").read_bytes()).hexdigest()
    assert digest in folder.joinpath("README.md").read_text("utf-8")
    assert "Copyright (c) 2021, Niivue" in folder.joinpath("LICENSE").read_text("utf-8")
    assert folder.joinpath("THIRD_PARTY_NOTICES.txt").read_text("utf-8").count("Permission is hereby granted") >= 10
