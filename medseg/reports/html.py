"""report.html of a case: image, outlines and uncertainty in any browser, on one page that needs nothing but itself.

The page carries NiiVue and the volumes, and a content policy in its head forbids it to load or send anything. Slices
are in radiological convention and in millimetres, as 3D Slicer shows them. Where the viewer cannot run, a still
picture stands in its place.
"""

from __future__ import annotations

import base64
import json
import math
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from medseg.labels import LabelTable
from medseg.reports.body import in_hounsfield_units
from medseg.reports.carried import carry, check_shapes, index_of
from medseg.reports.case_view import MAPS
from medseg.reports.deface import deface as mask_face
from medseg.reports.deface import looks_like_head
from medseg.reports.markup import paragraph, section, text
from medseg.reports.page import resource, whole_page
from medseg.reports.planes import CT_WINDOW, window_of
from medseg.reports.preview import preview_png
from medseg.reports.structures import structure_table, structures_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medseg.reports.carried import Carried
    from medseg.reports.case_view import CaseView
    from medseg.reports.structures import Structure

#: Level and width, HU.
CT_WINDOWS = {
    "Soft tissue": (40, 400), "Liver": (60, 160), "Lung": (-600, 1500), "Bone": (400, 1800), "Brain": (40, 80),
}  # fmt: skip
_FACE = (
    "This scan shows a head: a face can be recognised from it. Share this page as you would share the scan, or make it "
    "again with --deface-report."
)
_MASKED = (
    "The face is masked on this page, coarsely: a plane from the eyebrows to behind the chin, not a guarantee. The "
    "other files of this case are not masked."
)
_NOT_MASKED = (
    "No head was recognised in this scan, so nothing was masked on this page. If it does show a face, share it as you "
    "would share the scan."
)
_CAUTION = (
    "Low uncertainty does not mean that nothing is there, or that the outline is right: a model can miss a structure "
    "and be sure of it. The map shows where to look first, not where looking can end."
)
_MOST_PREVIEW_STRUCTURES = 24


def report_html(view: CaseView, *, deface: bool = False, limit_mb: float = 25.0) -> str:
    """The page as one string.

    Args:
        view: the case. Nothing else gets onto the page: no path, no tag, no date.
        deface: mask the face, should the scan show a head; see `medseg.reports.deface`.
        limit_mb: of the whole page, 10^6 bytes. An image too large for it is cropped to the surroundings of its
            structures and if need be averaged to larger voxels; the page says so. The smallest page is about 3 MB.

    Raises:
        ValueError: segmentation or maps have another shape than the image.
    """
    check_shapes(view)
    head = looks_like_head(view.image)
    if deface and head:
        view = replace(view, image=mask_face(view.image, view.segmentation.array))
    structures = structures_of(view)
    library, script = _script("niivue/niivue.umd.js"), _script("viewer.js")
    still = base64.b64encode(_still(view, structures)).decode("ascii")
    room = limit_mb * 1e6 - len(library) - len(script) - len(still) - 40_000 - 600 * len(structures)
    carried = carry(view, most_bytes=max(200_000, int(room)))
    notes = [_MASKED if head else _NOT_MASKED] if deface else [_FACE] * head
    notes = [*view.notes, *notes, *carried.notes]
    body = (
        f'<a class="skip" href="#canvas">Skip to the image</a>{_header(view, notes)}'
        f"<main>{_work(view, carried, still)}{_structures(structures, view)}{_help(view)}</main>"
    )
    return whole_page(
        view.name,
        body,
        styles=("page.css", "viewer.css"),
        scripts=(library, script),
        images="data: blob:",
        data=_data(view, carried, structures),
    )


def _header(view: CaseView, notes: Sequence[str]) -> str:
    warning = f'<p class="warning" role="alert">{text(view.warning)}</p>' if view.warning else ""
    listed = "".join(f"<li>{text(note)}</li>" for note in notes)
    listed = f'<ul class="notes" aria-label="What to look at">{listed}</ul>' if listed else ""
    return f'<header><p class="kicker">Segmentation of one scan</p><h1>{text(view.name)}</h1>{warning}{listed}</header>'


def _work(view: CaseView, carried: Carried, still: str) -> str:
    """Image and controls side by side."""
    views = (("planes", "3 planes"), ("axial", "Axial"), ("coronal", "Coronal"), ("sagittal", "Sagittal"))
    buttons = "".join(
        f'<button type="button" data-view="{key}" aria-pressed="{"true" if key == "planes" else "false"}">{name}</button>'
        for key, name in views
    )
    zoom = "".join(
        f'<button type="button" data-zoom="{step}" aria-label="{name}">{sign}</button>'
        for step, name, sign in ((-1, "Zoom out", "−"), (1, "Zoom in", "+"), (0, "Whole image", "Fit"))
    )
    stage = (
        '<div class="stage" id="stage"><canvas id="canvas" tabindex="0" role="application" aria-label="Slices of the '
        f'image with outlines; arrow keys and page up and down move the crosshair" aria-describedby="where"></canvas>'
        f'<div class="plain"><img alt="Three slices with the outlines of the structures" '
        f'src="data:image/png;base64,{still}"><p id="still"><span class="loading">A still picture: the viewer is '
        "starting, or this browser runs no scripts.</span></p></div></div>"
        '<p class="where" id="where" role="status"></p>'
    )
    panel = (
        f'<fieldset disabled><legend>View</legend><div class="buttons">{buttons}</div></fieldset>'
        f'<fieldset disabled><legend>Zoom</legend><div class="buttons">{zoom}</div></fieldset>'
        f"{_grey(view)}"
        '<fieldset disabled><legend>Structures</legend><label class="tick"><input type="checkbox" id="outlines" checked> '
        f"Outlines</label>{_slider('fill', 'Fill', 0)}</fieldset>{_uncertainty(carried)}"
    )
    return (
        f'<div class="work"><section class="viewer" aria-label="Image">{stage}</section>'
        f'<aside class="panel" aria-label="Controls">{panel}</aside></div>'
    )


def _grey(view: CaseView) -> str:
    presets = ""
    if in_hounsfield_units(view.image):
        options = "".join(
            f'<option value="{lv},{w}">{name} ({lv}/{w})</option>' for name, (lv, w) in CT_WINDOWS.items()
        )
        presets = f'<select id="preset" aria-label="Window preset"><option value="">Window …</option>{options}</select>'
    return (
        f'<fieldset disabled><legend>Grey values</legend>{presets}<div class="pair"><label>Level <input type="number" id="level" '
        'step="any"></label><label>Width <input type="number" id="width" step="any" min="0"></label></div></fieldset>'
    )


def _uncertainty(carried: Carried) -> str:
    if not carried.maps:
        return ""
    radios = "".join(
        f'<label class="tick"><input type="radio" name="map" value="{text(key)}"> {text(title)}</label>'
        for key, title in (*((k, _title(k)) for k in carried.maps), ("", "Off"))
    )
    return (
        f"<fieldset disabled><legend>Uncertainty</legend>{radios}{_slider('opacity', 'Opacity', 60)}"
        f'{_slider("threshold", "Show from", 15, "threshold-value")}<div class="bar" id="bar"><i></i><span><span>0</span>'
        f'<span id="top"></span></span></div></fieldset><p class="caution">{_CAUTION}</p>'
    )


def _slider(name: str, label: str, value: int, output: str = "") -> str:
    shown = f'<output id="{output}" for="{name}"></output>' if output else "<span></span>"
    return (
        f'<label class="line"><span>{label}</span><input type="range" id="{name}" min="0" max="100" value="{value}">'
        f"{shown}</label>"
    )


def _structures(structures: Sequence[Structure], view: CaseView) -> str:
    if not structures:
        return section("structures", "Structures", paragraph("The label map is empty."))
    where = "the place where the model is least sure of it" if view.maps else "it"
    words = f"A name leads to {where}; a tick shows or hides its outline."
    every = (
        '<label class="tick"><input type="checkbox" id="all" checked disabled> Show all</label>'
        if len(structures) > 3
        else ""
    )
    above = f'<div class="above"><p class="lead">{words}</p>{every}</div>'
    return section("structures", "Structures", above, structure_table(structures, with_maps=bool(view.maps)))


def _help(view: CaseView) -> str:
    lines = [
        "Left mouse button or a finger: move the crosshair. Wheel: through the slices. Right button: grey values.",
        "<kbd>Tab</kbd> to the image, then arrows: crosshair to the right, left, front, back; <kbd>Page up</kbd> "
        "<kbd>Page down</kbd>: towards the head, the feet; with <kbd>Shift</kbd> ten voxels.",
        "<kbd>1</kbd> three planes, <kbd>2</kbd> axial, <kbd>3</kbd> coronal, <kbd>4</kbd> sagittal; <kbd>+</kbd> "
        "<kbd>−</kbd> <kbd>0</kbd> zoom.",
        "<kbd>o</kbd> outlines" + ("; <kbd>u</kbd> uncertainty, <kbd>m</kbd> the other map." if view.maps else "."),
        "Radiological convention: the patient’s right is on the left of axial and coronal slices; sagittal slices look "
        "to the left. Places are in mm, RAS.",
    ]
    if view.maps:
        lines.append(
            "Uncertainty is divided by the logarithm of the number of classes: 0 is certain, 1 a guess among all "
            "of them. The colours end at the largest value of the scale, which is written at their end."
        )
    return section("help", "How to use this page", f'<ul class="help">{"".join(f"<li>{x}</li>" for x in lines)}</ul>')


def _data(view: CaseView, carried: Carried, structures: Sequence[Structure]) -> str:
    indices = index_of(carried.values)
    image = carried.stack.image
    hounsfield = in_hounsfield_units(view.image)
    page = {
        "shape": image.grid.shape,
        "window": CT_WINDOW if hounsfield else window_of(image.array, None),
        "unit": "HU" if hounsfield else "",
        "extent": max(image.grid.extent_mm),
        "maps": [{"key": key, "title": _title(key), "top": _top(packed.slope * 255)} for key, packed in carried.maps.items()],
        "start": _first(structures),
        "structures": [
            {
                "number": number,
                "name": s.name,
                "colour": s.colour,
                "indices": sorted({indices[v] for v in s.values if v in indices}),
                "place": s.place,
            }
            for number, s in enumerate(structures)
        ],
    }  # fmt: skip
    volumes = {"image": carried.image, "labels": carried.labels}
    volumes |= {f"map-{key}": packed for key, packed in carried.maps.items()}
    blocks = [
        f'<script type="text/plain" id="data-{text(key)}">{packed.base64()}</script>' for key, packed in volumes.items()
    ]
    plain = json.dumps(page, allow_nan=False).replace("<", "\\u003c")
    blocks.append(f'<script type="x-shader/x-fragment" id="slices">{resource("slices.frag")}</script>')
    return f'<script type="application/json" id="case">{plain}</script>{"".join(blocks)}'


def _first(structures: Sequence[Structure]) -> tuple[float, float, float] | None:
    """Where the page opens: at the structure of the lowest predicted Dice, else at the first that is there."""
    there = [s for s in structures if s.place is not None]
    return min(there, key=_predicted).place if there else None


def _predicted(structure: Structure) -> float:
    try:
        value = float(str(structure.row.get("predicted_dice")))
    except ValueError:
        return math.inf
    return value if math.isfinite(value) else math.inf


def _top(largest: float) -> float:
    """A round number at or above the largest value of a map, where its colours end."""
    return next((t for t in (0.02, 0.05, 0.1, 0.2, 0.5) if largest <= t), 1.0)


def _title(key: str) -> str:
    return MAPS.get(key, key.replace("_", " ").capitalize())


def _still(view: CaseView, structures: Sequence[Structure]) -> bytes:
    named = view.segmentation.labels or LabelTable.from_values(v for s in structures for v in s.values)
    few = named if len(named) <= _MOST_PREVIEW_STRUCTURES else LabelTable(())
    # The window follows the values: a CT in NIfTI does not say that it is one, and one without intercept is none.
    source = replace(view.image.source, modality="CT" if in_hounsfield_units(view.image) else None)
    return preview_png(replace(view.image, source=source), view.segmentation, few, warning=view.warning)


def _script(name: str) -> str:
    """A script that can stand inside a page: nothing in it ends or nests the element."""
    return re.sub(r"<(/script|!--|script)", r"<\\\1", resource(name), flags=re.IGNORECASE)
