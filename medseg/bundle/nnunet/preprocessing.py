"""How images reach the network, and its logits the image's grid, as components of a config."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medseg.bundle.nnunet.plans import axcodes_of, entry, unknown

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_SCHEMES = {
    "ZScoreNormalization": "zscore",
    "CTNormalization": "ct",
    "NoNormalization": "none",
    "RescaleTo01Normalization": "rescale01",
    "RGBTo01Normalization": "rgb01",
}
_INTENSITIES = {"low": "percentile_00_5", "high": "percentile_99_5", "mean": "mean", "std": "std"}


def to_grid(plans: Mapping[str, Any], configuration: Mapping[str, Any], channels: int, root: Path) -> dict[str, Any]:
    """`medseg.transforms.ToNnunetGridd` for key "image".

    Args:
        plans: plans.json.
        configuration: of it.
        channels: of the image.
        root: of messages.

    Raises:
        BundleError: MS-B155 a preprocessor, reader, normalisation or resampling that medseg does not have.
    """
    preprocessor = configuration.get("preprocessor_name", "DefaultPreprocessor")
    if preprocessor != "DefaultPreprocessor":
        raise unknown(root, f"the preprocessor {preprocessor}")
    schemes = list(entry(configuration, "normalization_schemes", root))
    masked = list(configuration.get("use_mask_for_norm") or [False] * len(schemes))
    if len(schemes) != channels or len(masked) != channels:
        raise unknown(root, f"{len(schemes)} normalisations for {channels} channels")
    ours = {
        "_target_": "medseg.transforms.ToNnunetGridd",
        "keys": "image",
        "spacing_mm": [float(mm) for mm in entry(configuration, "spacing", root)],
        "normalisation": [_scheme(name, bool(masked[n]), plans, n, root) for n, name in enumerate(schemes)],
        "transpose": [int(axis) for axis in plans.get("transpose_forward", (0, 1, 2))],
        "resizing": resizing_of(configuration, "data", root),
    }
    turned = axcodes_of(plans, root)
    return ours | ({"axcodes": turned} if turned else {})


def from_grid(configuration: Mapping[str, Any], regions: tuple[int, ...] | None, root: Path) -> dict[str, Any]:
    """`medseg.transforms.FromNnunetGridd` for key "pred".

    Raises:
        BundleError: MS-B155 a resampling that medseg does not have.
    """
    how = resizing_of(configuration, "probabilities", root)
    if how["order"] not in (1, None) or how.get("order_z", 0) not in (0, 1):
        raise unknown(root, f"probabilities resampled with order {how['order']}, {how.get('order_z', 0)} across planes")
    ours = {"_target_": "medseg.transforms.FromNnunetGridd", "keys": "pred", "ref": "image", "resizing": how}
    return ours | ({"regions": list(regions)} if regions else {})


def resizing_of(configuration: Mapping[str, Any], what: str, root: Path) -> dict[str, Any]:
    """Arguments of `medseg.transforms.nnunet.Resizing`, for "data" or "probabilities".

    Raises:
        BundleError: MS-B155 a function or order that medseg does not have.
    """
    name = str(configuration.get(f"resampling_fn_{what}", "resample_data_or_seg_to_shape"))
    given = dict(configuration.get(f"resampling_fn_{what}_kwargs") or {})
    rule: dict[str, Any] = {"separate": given.get("force_separate_z")}
    if "separate_z_anisotropy_threshold" in given:
        rule["threshold"] = float(given["separate_z_anisotropy_threshold"])
    if name == "no_resampling_hack":
        return {"order": None}
    if name == "resample_data_or_seg_to_shape":
        how = {"order": int(given.get("order", 3)), "order_z": int(given.get("order_z", 0)), **rule}
        if how["order"] not in (0, 1, 3) or how["order_z"] not in (0, 1, 3):
            raise unknown(root, f"resampling {what} with order {how['order']} ({how['order_z']} across planes)")
        return how
    if name == "resample_torch_fornnunet" and given.get("mode", "linear") == "linear":
        across = given.get("aniso_axis_mode", "nearest-exact")
        if across in ("nearest-exact", "linear"):
            return {"order": 1, "order_z": 0 if across == "nearest-exact" else 1, "clip": False, **rule}
    raise unknown(root, f"resampling {what} with {name}")


def _scheme(name: str, masked: bool, plans: Mapping[str, Any], channel: int, root: Path) -> dict[str, Any]:
    scheme = _SCHEMES.get(name)
    if scheme is None:
        raise unknown(root, f"the normalisation {name}")
    if scheme == "zscore":
        return {"scheme": scheme, **({"nonzero": True} if masked else {})}
    if scheme != "ct":
        return {"scheme": scheme}
    keys = ("foreground_intensity_properties_per_channel", "foreground_intensity_properties_by_modality")
    table = next((plans[key] for key in keys if key in plans), {})
    measured = table.get(str(channel), {})
    return {"scheme": scheme, **{ours: float(entry(measured, theirs, root)) for ours, theirs in _INTENSITIES.items()}}
