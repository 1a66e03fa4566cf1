"""Can the uncertainty of the shipped hippocampus bundle be trusted? Its 40 validation cases, cross-fitted.

Temperature and predicted Dice are fitted on one half of the cases and scored on the other, then the other way round.
A row compares a figure with its goal (ratio > 1 means reached), or with the single pass without a temperature.
"mc" is Monte Carlo dropout where the bundle says; "mc at" a place has dropout there alone.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
from sampled import BAND_MM, Sampled, agreements, cases, collect, fitted_dice, fitted_temperature

from medseg.bundle.load import load_bundle
from medseg.inferers.dropout import McDropout, dropout_points
from medseg.metrics.calibration import calibration, calibration_by_region
from medseg.metrics.error_detection import pooled_error_detection
from medseg.metrics.quality import quality_agreement
from medseg.metrics.regions import near
from medseg.training.calibrate import cross_fit
from medseg.workflows.method import parse_method

BUNDLE = "hippocampus_mri_segmentation"
SAMPLES = 20
#: Where calibration is scored. In the last region, which the reference has a say in, labels drawn from the
#: probabilities themselves have an ECE of 0.1 to 0.2: no temperature can reach the goal there.
ECE = {
    "ece": "predicted foreground and 2 mm around",
    "ece inside": "predicted foreground",
    "ece union": "prediction or reference",
}


def rows(quick: bool = False) -> list[dict]:
    bundle = load_bundle(BUNDLE)
    listed = cases(bundle, hippocampus(), 6 if quick else None)
    single = scored("single pass", collect(listed, bundle), tempered=False)
    ways = {"mc": parse_method("mc"), "tta": parse_method("tta"), "ensemble": parse_method("ensemble")}
    found = {name: scored(name, collect(listed, bundle, method)) for name, method in ways.items()}
    found["ensemble+tta"] = scored("ensemble+tta", collect(listed, bundle, parse_method("ensemble+tta")))
    for name, points in places(bundle.network).items():
        sample = 5 if quick else SAMPLES
        made = collect(
            listed, bundle, ways["mc"], lambda net, p=points, n=sample: McDropout(net, n, points=dict.fromkeys(p))
        )
        found[f"mc at {name}"] = scored(name, made)
    out = [row("single pass", key, single[key], single[key], "itself") for key in ("ece", "dice", "auroc near")]
    best = max(found[name]["spearman"] for name in ways)
    for name, figures in found.items():
        out += [
            row(name, "AUROC of entropy, within 5 mm", figures["auroc near"], 0.9, "goal"),
            row(name, "AUROC of entropy, whole volume", figures["auroc whole"], 0.9, "goal"),
            row(name, "AUROC of mutual information, within 5 mm", figures["auroc mi"], 0.9, "goal"),
            row(name, "ECE, predicted foreground and 2 mm around", figures["ece"], 0.03, "goal", less=True),
            *(
                row(name, f"ECE, {where}", figures[key], single[key], "single pass, no temperature", less=True)
                for key, where in ECE.items()
            ),
            row(name, "Dice of the mean", figures["dice"], single["dice"] - 0.002, "single pass - 0.002"),
            row(name, "Spearman, agreement and true Dice", figures["spearman"], 0.5, "goal"),
            row(name, "MAE, predicted and true Dice", figures["mae"], figures["mae constant"], "mean Dice", less=True),
        ]
        interval = figures["interval"]
        sys.stderr.write(
            f"{name}: T {figures['temperature']:.3f}, Spearman {figures['spearman']:.3f} "
            f"[{interval.low:.3f}, {interval.high:.3f}], predicted Dice {figures['fit']}\n"
        )
    out.append(row("best of mc, tta, ensemble", "Spearman, agreement and true Dice", best, 0.5, "goal"))
    return out


def hippocampus() -> Path:
    """The folder of the real scans."""
    return Path(os.environ.get("MEDSEG_DATA") or Path(__file__).parents[3] / "shared" / "data", "hippocampus")


def row(case: str, what: str, value: float, against: float, peer: str, *, less: bool = False) -> dict:
    ratio = against / value if less else value / against
    return {"case": f"{case}: {what}", "peer": peer, "ratio": ratio, "medseg": value, "theirs": against, "unit": ""}


def places(network) -> dict[str, list[str]]:
    """Each dropout module alone; the bundle's own choice is "mc"."""
    return {name: [name] for name in dropout_points(network)}


def scored(name: str, made: list[Sampled], *, tempered: bool = True) -> dict:
    """Figures of one kind of sample over all cases."""
    values = list(range(1, made[0].logits.shape[1]))
    temperatures = cross_fit(made, fitted_temperature) if tempered else [1.0] * len(made)
    told = [agreements(case, t, values) for case, t in zip(made, temperatures, strict=True)]
    several = len(made[0].logits) > 1
    fits = cross_fit(told, fitted_dice) if several else []
    # per case: mean over the structures of predicted and of true Dice
    true = np.array([np.mean([x[v][1] for v in values]) for x in told])
    predicted = np.array(
        [np.mean([f[v][0] + f[v][1] * x[v][0] for v in values]) for x, f in zip(told, fits, strict=False)]
    )
    whole, close, information, ece = [], [], [], []
    for case, temperature in zip(made, temperatures, strict=True):
        found = case.at(temperature)
        pred, entropy = found.labels.numpy(), found.entropy.numpy()
        wrong = pred != case.ref
        beside = near(pred, case.ref, spacing_mm=case.spacing_mm)
        whole.append((entropy, wrong, None))
        close.append((entropy, wrong, beside))
        information.append((found.mutual_information.numpy(), wrong, beside))
        regions = calibration_by_region(
            found.mean.numpy(), pred, case.ref.astype(np.int64), spacing_mm=case.spacing_mm, band_mm=BAND_MM
        )
        ece.append({**regions, "inside": calibration(found.mean.numpy(), case.ref.astype(np.int64), region=pred > 0)})
    agreed = quality_agreement([np.mean([x[v][0] for v in values]) for x in told], true) if several else None
    off = float(np.abs(predicted - true).mean()) if several else float("nan")
    others = cross_fit(list(true), lambda some: float(np.mean(some)))
    return {
        "temperature": float(np.mean(temperatures)),
        "fit": None if not several else {v: tuple(round(x, 3) for x in fitted_dice(told)[v]) for v in values},
        "auroc whole": pooled_error_detection(whole).auroc,
        "auroc near": pooled_error_detection(close).auroc,
        "auroc mi": pooled_error_detection(information).auroc,
        "ece": sum(x["prediction"] for x in ece).top.ece,
        "ece inside": sum(x["inside"] for x in ece).top.ece,
        "ece union": sum(x["foreground"] for x in ece).top.ece,
        "dice": float(true.mean()),
        "spearman": agreed.spearman.estimate if agreed else float("nan"),
        "interval": agreed.spearman if agreed else None,
        "mae": off,
        "mae constant": float(np.abs(true - np.array(others)).mean()),
        "name": name,
    }
