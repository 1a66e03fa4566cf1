"""The codec probe decodes real samples, and a broken plug-in or wrong pixels show."""

from __future__ import annotations

from medseg.workflows import codecs


def test_all_four_kinds_decode_here():
    assert codecs.probe_codecs() == {"RLE": "", "JPEG 2000": "", "JPEG-LS": "", "JPEG lossless": ""}


def test_a_sample_that_does_not_decode_says_why(monkeypatch):
    monkeypatch.setattr(codecs, "_LOSSLESS_JPEG", codecs._LOSSLESS_JPEG[:30])
    assert codecs.probe_codecs()["JPEG lossless"] != ""


def test_wrong_pixels_are_not_taken_for_right_ones(monkeypatch):
    monkeypatch.setattr(codecs, "_SLICES", {"RLE": "CT_small.dcm"})
    assert codecs.probe_codecs()["RLE"] == "it decodes to wrong pixels"
