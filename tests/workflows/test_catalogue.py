"""The list of shipped bundles comes from their metadata, and says which can predict."""

from __future__ import annotations

import json
import subprocess
import sys

from medseg.workflows import catalogue


def test_needs_finds_scores_and_weights(tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    meta = {"version": "1.2.3", "image_classes": ["CT"], "label_classes": {"1": "liver"}, "eval_metrics": {"dice": 0.9}}
    (tmp_path / "configs" / "metadata.json").write_text(json.dumps(meta), encoding="utf-8")
    monkeypatch.setattr(catalogue, "shipped_bundles", lambda: {"liver": tmp_path})
    (entry,) = catalogue.list_bundles()
    assert (entry.name, entry.version, entry.weights) == ("liver", "1.2.3", False)
    assert (entry.needs, entry.finds, entry.scores) == ("CT", "1 liver", {"dice": 0.9})
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "model.safetensors").write_bytes(b"x")
    assert catalogue.list_bundles()[0].weights


def test_listing_bundles_loads_neither_torch_nor_monai():
    code = (
        "import sys; from medseg.workflows.catalogue import list_bundles; list_bundles(); "
        "print([m for m in ('torch', 'monai') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
