"""Question and answer of the statistics, what the audit lets out of them, the job, the report and the picture."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from medseg.bundle.domain import check_domain
from medseg.errors import InputError, OutputError, UsageError
from medseg.federated.label_union import union_of
from medseg.federated.privacy.allow_list import OutgoingError, allow_list_of
from medseg.federated.privacy.outgoing import released
from medseg.federated.stats.agreed_domain import domain_of_sites
from medseg.federated.stats.agreement import agree, compare
from medseg.federated.stats.agreement_figure import agreement_figure
from medseg.federated.stats.exchange import heard, question, statistics_of, told
from medseg.federated.stats.findings import differs
from medseg.federated.stats.fingerprint import SCAN_BINS, Structure, fingerprint_of
from medseg.federated.stats.fingerprint_json import from_json, to_json
from medseg.federated.stats.job import stats_job
from medseg.federated.stats.pool import pool
from medseg.federated.stats.reference import channels_and_labels, of_bundle
from medseg.federated.stats.report import CONSORTIUM, PICTURE, REPORT, agreement_at, taken_over, write_report
from medseg.federated.stats.sketch import sketch_of
from medseg.federated.stats.survey import survey
from medseg.readers.open import read


@pytest.fixture(scope="module")
def folders(cubes, tmp_path_factory):
    root = tmp_path_factory.mktemp("sites")
    return {
        "a": cubes(root / "a", range(6)),
        "b": cubes(root / "b", range(10, 18)),
        "c": cubes(root / "c", range(20, 27), shift=400.0),
    }


@pytest.fixture(scope="module")
def agreed(folders):
    return statistics_of(folders, held_out=["c"])


def test_a_site_that_is_held_out_is_compared_and_agrees_on_nothing(agreed):
    assert agreed.pooled.cases == 14
    assert {(one.site, one.code) for one in agreed.findings} == {("c", "MS-J151")}
    assert agreed.held_out == ("c",)


def test_answers_are_read_back_and_hold_more_on_the_second_question(folders):
    seen = survey(folders["a"])
    first, held_out = heard(json.loads(json.dumps(told(seen, question(5)))))
    assert not held_out
    assert first.channels[0].grey == ()
    second, held_out = heard(told(seen, question(5, [SCAN_BINS]), held_out=True))
    assert held_out
    assert second.channels[0].bins == SCAN_BINS
    assert replace(second.channels[0], bins=None, grey=(), tissue=()) == first.channels[0]


def test_a_server_can_ask_for_more_cases_and_not_for_fewer(folders):
    seen = survey(folders["a"], cases=["cube_00", "cube_01", "cube_02"])
    assert len(seen.seen) == 3
    assert heard(told(seen, question(1)))[0].cases == 0
    assert heard(told(survey(folders["a"]), question(7)))[0].cases == 0
    assert heard(told(survey(folders["a"]), question(6)))[0].cases == 6


@pytest.mark.parametrize("asked", [{}, {"at_least": 5}, {"at_least": "x", "bins": []}, {"at_least": 5, "bins": [1]}])
def test_a_question_that_is_none_is_not_answered(folders, asked):
    with pytest.raises(InputError, match="no statistics that this site knows"):
        told(survey(folders["a"]), asked)


@pytest.mark.parametrize(
    "message",
    [None, {}, {"fingerprint": {}, "held_out": False}, {"fingerprint": {}, "held_out": 1}, {"held_out": True}],
)
def test_an_answer_that_is_none_is_not_heard(message):
    with pytest.raises(InputError) as raised:
        heard(message)
    assert raised.value.code == "MS-J170"


def test_the_audit_lets_statistics_out_made_anew_and_nothing_beside_them(folders):
    answer = told(survey(folders["a"]), question(5, [SCAN_BINS]))
    allowed = allow_list_of({"w": (2,)})
    found = released("STATISTICS", answer, {}, allowed)
    assert found.data == answer
    assert found.data is not answer
    assert found.row == {"scalars": {}, "fingerprint_cases": 6, **answer}
    for data, meta, code in (
        (answer, {"patient": 4}, "MS-J116"),
        ({**answer, "file": "SURNAME"}, {}, "MS-J170"),
        ({**answer, "fingerprint": {**answer["fingerprint"], "file": "SURNAME"}}, {}, "MS-J170"),
    ):
        with pytest.raises(OutgoingError) as raised:
            released("STATISTICS", data, meta, allowed)
        assert raised.value.code == code
        assert "SURNAME" not in raised.value.what
    with pytest.raises(OutgoingError, match="does not tell"):
        released("STATISTICS", answer, {}, replace(allowed, statistics=False))


def test_a_report_is_read_back_and_shows_all_sites_nothing_of_one(agreed, tmp_path):
    write_report(tmp_path / "job" / "deep", agreed)
    taken_over(tmp_path / "job", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [CONSORTIUM, REPORT, PICTURE]
    again = agreement_at(tmp_path / "out")
    assert (again.sites, again.findings, again.held_out) == (agreed.sites, agreed.findings, ("c",))
    consortium = json.loads((tmp_path / "out" / CONSORTIUM).read_text("utf-8"))
    assert from_json(consortium["pooled"]) == agreed.pooled
    assert not {"sites", "findings", "held_out"} & set(consortium)
    with pytest.raises(InputError, match="left no report"):
        taken_over(tmp_path / "job", tmp_path / "more")
    (tmp_path / "out" / REPORT).write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="cannot be read") as raised:
        agreement_at(tmp_path / "out")
    assert raised.value.code == "MS-J176"


def test_a_job_holds_names_and_numbers_and_no_place(small_recipe, tmp_path):
    job = stats_job(tmp_path, run="first", bundle=small_recipe, quorum=3)
    files = {path.relative_to(job).as_posix(): path.read_text("utf-8") for path in job.rglob("*.json")}
    assert set(files) == {"meta.json", "app/config/config_fed_server.json", "app/config/config_fed_client.json"}
    assert not any(str(small_recipe) in text or str(tmp_path) in text for text in files.values())
    server = json.loads(files["app/config/config_fed_server.json"])["workflows"][0]["args"]
    assert (server["bundle"], server["quorum"], len(server["bundle_hash"])) == (small_recipe.name, 3, 64)
    with pytest.raises(OutputError, match="a job of this name"):
        stats_job(tmp_path, run="first")


@pytest.mark.parametrize("wrong", [{"run": "../x"}, {"run": ""}, {"at_least": 0}, {"quorum": 0}, {"deadline_s": 0}, {"deadline_s": float("nan")}, {"grace_s": -1}])  # fmt: skip
def test_numbers_that_are_none_are_refused(wrong, tmp_path):
    with pytest.raises(UsageError) as raised:
        stats_job(tmp_path, **wrong)
    assert raised.value.code == "MS-J175"


def test_a_picture_has_a_colour_a_site_and_every_finding(agreed):
    figure = agreement_figure(agreed.sites, agreed.findings)
    above, below = figure.subfigs
    assert [text.get_text() for text in above.legends[0].get_texts()] == ["a (6 cases)", "b (8 cases)", "c (7 cases)"]
    assert "something was added to the grey values" in " ".join(text.get_text() for text in below.texts)
    grey = above.axes[0]
    assert len(grey.lines) == 6
    assert grey.lines[0].get_ydata().sum() == pytest.approx(1, abs=1e-3)
    places = above.axes[2]
    left, right = places.get_xlim()
    assert left > right, "the patient's right is at the left, as radiologists look at it"
    assert "nothing was found" in agreement_figure(agreed.sites).subfigs[1].texts[0].get_text()


def test_a_picture_of_a_site_that_says_nothing_and_of_many_findings(agreed):
    silent = fingerprint_of(replace(survey_of_nothing(), channels=("image",)))
    figure = agreement_figure({"a": silent, "b": agreed.pooled}, agreed.findings * 40)
    figure.canvas.draw()
    assert "more lines" in figure.subfigs[1].texts[-1].get_text()


def survey_of_nothing():
    from medseg.federated.stats.survey import Survey
    from medseg.labels import LabelTable

    return Survey((), LabelTable(()), (), ())


def test_a_bundle_stands_for_the_others_where_nothing_is_agreed_yet(small_recipe, folders):
    reference = of_bundle(small_recipe)
    assert [one.name for one in reference.structures] == ["Anterior hippocampus", "Posterior hippocampus"]
    channels, labels = channels_and_labels(small_recipe)
    own = fingerprint_of(survey(folders["a"], channels, labels=labels))
    assert channels == ()
    assert compare("a", own, reference) == ()
    other = replace(own, structures=(Structure("liver", 1, 6),))
    assert {one.code for one in compare("a", other, reference)} == {"MS-J157", "MS-J158"}
    more = replace(own, channels=own.channels * 2)
    assert {one.code for one in compare("a", more, reference)} == {"MS-J159"}
    assert channels_and_labels(None) == ((), None)


def test_the_domain_of_all_sites_takes_their_scans_and_no_others(folders, agreed):
    domain = domain_of_sites([agreed.sites["a"], agreed.sites["b"]])
    assert domain.cases == 14
    files = sorted((folders["b"] / "imagesTr").iterdir())
    assert check_domain(read(files[0]), domain) == []
    halved = replace(read(files[0]), affine=np.diag([4.0, 4, 4, 1]))
    assert {one.code for one in check_domain(halved, domain)} >= {"MS-X103"}
    assert domain_of_sites([agreed.sites["a"], replace(agreed.sites["b"], channels=())]) is None
    assert domain_of_sites([]) is None


def test_a_pool_counts_cases_and_puts_one_name_together(agreed):
    found = pool([agreed.sites["a"], agreed.sites["b"]])
    assert found.cases == 14
    assert [one.cases for one in found.structures] == [14, 14]
    grey = (6 * np.array(agreed.sites["a"].channels[0].grey) + 8 * np.array(agreed.sites["b"].channels[0].grey)) / 14
    assert np.allclose(found.channels[0].grey, grey, atol=1e-4)
    assert from_json(to_json(found)) == found


def sites_with(**names):
    return {
        site: replace(empty(), structures=tuple(Structure(name, value, 9) for value, name in rows.items()))
        for site, rows in names.items()
    }


def empty():
    return fingerprint_of(survey_of_nothing())


def test_a_union_of_labels_by_hand():
    union = union_of(
        sites_with(
            a={1: "liver", 2: "kidney left", 3: "kidney right"}, b={1: "Spleen", 5: "Kidney, right"}, c={2: "label 2"}
        )
    )
    assert {row.value: row.name for row in union.table} == {
        1: "liver", 2: "kidney left", 3: "kidney right", 4: "Spleen",
    }  # fmt: skip
    assert union.table.by_value[2].mirror == "kidney right"
    assert union.values == {"a": {1: 1, 2: 2, 3: 3}, "b": {1: 4, 5: 3}, "c": {2: 2}}
    assert union.present == {"a": (1, 2, 3), "b": (3, 4), "c": (2,)}
    assert union.partial
    assert union.renumbered
    same = union_of(sites_with(a={1: "liver"}, b={1: "Liver"}))
    assert not same.partial
    assert not same.renumbered
    assert union_of({"a": empty()}).present == {"a": ()}


def test_numbers_differ_by_their_spread_and_by_how_many_there_are():
    rng = np.random.default_rng(1)
    a, b = (sketch_of(rng.normal(mean, 1, 40)) for mean in (0, 3))
    assert differs(a, b, 0.01) == pytest.approx(-3, abs=1)
    assert differs(b, a, 0.01) == -differs(a, b, 0.01)
    assert differs(a, a, 0.01) == 0
    assert differs(a, b, 3.0) == 0, "the least spread counts"
    five, other = sketch_of(range(5)), sketch_of([x + 2.5 for x in range(5)])
    assert differs(five, other, 0.01) == 0, "five cases do not prove it"
    many = (sketch_of(list(range(5)) * 20), sketch_of([x + 2.5 for x in range(5)] * 20))
    assert differs(*many, 0.01) == pytest.approx(-2.5 / (2 / 1.349))
    assert differs(None, a, 0.01) == 0
    tens = [sketch_of(factor * np.exp(rng.normal(0, 0.1, 30))) for factor in (1, 10)]
    assert differs(tens[0], tens[1], 0.1, log=True) < -10


def test_more_sites_than_two_put_the_fault_where_most_differ(agreed):
    """Of three sites two of which are alike, the third alone is told of, however many cases it has."""
    large = pool([agreed.sites["c"]] * 20)
    found = agree({"a": agreed.sites["a"], "b": agreed.sites["b"], "c": large})
    assert {one.site for one in found.findings} == {"c"}
