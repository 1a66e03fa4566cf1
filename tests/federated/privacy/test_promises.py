"""What is promised is true, and what is not promised is said."""

from __future__ import annotations

import pytest

from medseg.federated.privacy.promises import promises
from medseg.federated.privacy.settings import Privacy, load_privacy


@pytest.mark.parametrize(("sites", "who"), [(1, "no partner"), (2, "one partner, who can subtract")])
def test_with_fewer_than_three_sites_secure_aggregation_hides_nothing(sites, who):
    first = promises(sites, load_privacy("none"))[0]
    assert first.startswith(f"warning: with {sites} site")
    assert "secure aggregation hides nothing" in first
    assert who in first


def test_with_three_there_is_no_such_warning():
    assert not any("warning" in line for line in promises(3, load_privacy("none")))


def test_the_server_sees_each_update_and_that_is_said():
    assert any("the server sees each site's update" in line for line in promises(5, load_privacy("clip_noise")))


def test_under_encryption_who_can_read_what_is_said():
    text = "\n".join(promises(3, load_privacy("he")))
    assert "the server adds them and reads neither one nor the model" in text
    assert "every site, and the coordinator, who made it and must not run the server" in text
    assert "the server sees each site's update" not in text
    assert "there is no differential privacy" in text


def test_differential_privacy_is_claimed_with_noise_alone():
    said = {name: "\n".join(promises(3, load_privacy(name))) for name in ("none", "fp16", "top_k", "clip_noise")}
    assert all("there is no differential privacy" in said[name] for name in ("none", "fp16", "top_k"))
    assert "clipped to norm 1 and noised with 0.001 times that" in said["clip_noise"]
    assert "without noise that promises no privacy" in "\n".join(promises(3, Privacy("clip", clip_norm=1.0)))


@pytest.mark.parametrize("sites", [1, 2, 3, 50])
def test_words_that_nobody_can_keep_are_never_used(sites):
    text = "\n".join(promises(sites, load_privacy("clip_noise"))).lower()
    assert not any(word in text for word in ("anonym", "gdpr", "hipaa", "guarantee", "compliant", "safe"))
