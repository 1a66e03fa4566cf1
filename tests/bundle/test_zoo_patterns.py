"""Configs in the patterns of MONAI's zoo pass the gate untrusted, and what they describe is built and works."""

from __future__ import annotations

import sys

import pytest
import torch

from medseg.bundle.config import read_config
from medseg.bundle.load import build, load_bundle, open_config
from medseg.bundle.verdict import inspect_bundle
from tests.bundle.zoo_patterns import PATTERNS, ROI, write_pattern

#: In the zoo 13 of 31 inference configs need no code of their own.
AT_LEAST = 13
loaded: list[str] = []


def image(channels: int, axes: int) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.rand(1, channels, *(ROI if axes == 3 else (64, 64)))


@pytest.mark.parametrize("name", PATTERNS)
def test_it_is_safe_and_everything_in_it_is_built(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, channels, classes, axes = PATTERNS[name]
    root = write_pattern(tmp_path / "zoo_segmentation", name, as_yaml="searched" in name)
    found = inspect_bundle(root)
    assert (found.word, dict(found.refused)) == ("safe", {})
    parser = open_config(root, read_config(root, "inference"), read_config(root, "metadata"))
    network = build(parser, ("network_def",), root).eval()
    inferer = build(parser, ("inferer",), root)
    assert build(parser, ("preprocessing",), root).transforms
    assert build(parser, ("postprocessing",), root).transforms
    with torch.no_grad():
        output = inferer(image(channels, axes), network)
    assert output.shape[:2] == (1, classes)
    evaluator = build(parser, ("evaluator",), root)
    assert len(evaluator.data_loader) == 0
    assert build(parser, ("network",), root) is network
    loaded.append(name)


@pytest.mark.parametrize(
    "name", [name for name in PATTERNS if name in ("spleen UNet", "AttentionUnet from other files")]
)
def test_with_weights_medseg_predicts_with_it(name, tmp_path):
    root = write_pattern(tmp_path / "zoo_segmentation", name)
    parser = open_config(root, read_config(root, "inference"), read_config(root, "metadata"))
    torch.save(build(parser, ("network_def",), root).state_dict(), root / "models" / "model.pt")
    bundle = load_bundle(root)
    assert not bundle.trusted
    assert ("configs/shared.json" in bundle.hashes) == ("files" in name)


def test_how_many(capsys):
    if len(loaded) < len(PATTERNS):
        assert len(PATTERNS) >= AT_LEAST
        return
    with capsys.disabled():
        sys.stdout.write(f"\nzoo patterns: {len(loaded)} of {len(PATTERNS)} load without trust\n")
    assert len(loaded) >= AT_LEAST
