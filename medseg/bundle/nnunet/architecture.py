"""The network of a configuration as `network_def` of a bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medseg.bundle.nnunet.plans import entry, unknown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_PLAIN, _RESIDUAL = "PlainConvUNet", "ResidualEncoderUNet"
#: What `arch_kwargs` may hold; dropout does nothing in prediction and has no weights.
_KNOWN = (
    "n_stages", "features_per_stage", "conv_op", "kernel_sizes", "strides", "n_conv_per_stage", "n_blocks_per_stage",
    "n_conv_per_stage_decoder", "conv_bias", "norm_op", "norm_op_kwargs", "dropout_op", "dropout_op_kwargs", "nonlin",
    "nonlin_kwargs", "deep_supervision", "nonlin_first",
)  # fmt: skip


def network_def(
    configuration: Mapping[str, Any], in_channels: int, out_channels: int, weights: Sequence[str], root: Path
) -> dict[str, Any]:
    """The network as a component of a config.

    Args:
        configuration: of plans.json.
        in_channels: of the image.
        out_channels: classes or regions.
        weights: names of the state dict: a trainer can have taken batch norm instead of the plans' norm.
        root: of messages.

    Raises:
        BundleError: MS-B155 a network, norm, activation or argument that `medseg.networks.NnunetUNet` does not have.
    """
    architecture = configuration.get("architecture")
    if architecture is None:
        architecture = _of_old_plans(configuration, root)
    name = str(entry(architecture, "network_class_name", root)).rsplit(".", 1)[-1]
    given = entry(architecture, "arch_kwargs", root)
    if name not in (_PLAIN, _RESIDUAL):
        raise unknown(root, f"the network {name}")
    odd = sorted(key for key, value in given.items() if key not in _KNOWN and value is not None)
    if odd:
        raise unknown(root, f"{', '.join(odd)} of the network")
    residual = name == _RESIDUAL
    features = entry(given, "features_per_stage", root)
    stages = int(given.get("n_stages", len(features) if isinstance(features, list) else 0))
    norm = "batch" if any(key.endswith(".running_mean") for key in weights) else _norm(given.get("norm_op"), root)
    norm_arguments = given.get("norm_op_kwargs") or {}
    defined = {
        "_target_": "medseg.networks.NnunetUNet",
        "in_channels": in_channels,
        "out_channels": out_channels,
        "features": _each(features, stages),
        "strides": [_three(stride) for stride in _each(entry(given, "strides", root), stages)],
        "kernel_sizes": [_three(kernel) for kernel in _each(entry(given, "kernel_sizes", root), stages)],
        "convolutions": _each(entry(given, "n_blocks_per_stage" if residual else "n_conv_per_stage", root), stages),
        "decoder_convolutions": _each(entry(given, "n_conv_per_stage_decoder", root), stages - 1),
        "residual": residual,
        "norm": norm,
        "eps": float(norm_arguments.get("eps", 1e-5)),
        "affine": bool(norm_arguments.get("affine", norm == "batch")),
        "bias": bool(given.get("conv_bias", False)),
        "slope": _slope(given, root),
        "deep_supervision": max(stages - 2, 0),
    }
    if given.get("nonlin_first") and not residual:
        defined["activation_first"] = True
    return defined


def _norm(name: Any, root: Path) -> str:
    last = str(name).rsplit(".", 1)[-1]
    found = {"InstanceNorm3d": "instance", "BatchNorm3d": "batch"}.get(last)
    if found is None:
        raise unknown(root, f"the norm {last}")
    return found


def _slope(given: Mapping[str, Any], root: Path) -> float:
    last = str(given.get("nonlin")).rsplit(".", 1)[-1]
    if last == "ReLU":
        return 0.0
    if last != "LeakyReLU":
        raise unknown(root, f"the activation {last}")
    return float((given.get("nonlin_kwargs") or {}).get("negative_slope", 0.01))


def _each(value: Any, count: int) -> list[Any]:
    return [value] * count if isinstance(value, int) else list(value)


def _three(value: Any) -> list[int]:
    return [value] * 3 if isinstance(value, int) else [int(n) for n in value]


def _of_old_plans(configuration: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """Plans from before nnU-Net 2.4 hold numbers; these arguments were fixed."""
    name = str(entry(configuration, "UNet_class_name", root))
    encoder = entry(configuration, "n_conv_per_stage_encoder", root)
    base, most = (int(entry(configuration, key, root)) for key in ("UNet_base_num_features", "unet_max_num_features"))
    return {
        "network_class_name": name,
        "arch_kwargs": {
            "n_stages": len(encoder),
            "features_per_stage": [min(base * 2**n, most) for n in range(len(encoder))],
            "kernel_sizes": entry(configuration, "conv_kernel_sizes", root),
            "strides": entry(configuration, "pool_op_kernel_sizes", root),
            "n_blocks_per_stage" if name == _RESIDUAL else "n_conv_per_stage": encoder,
            "n_conv_per_stage_decoder": entry(configuration, "n_conv_per_stage_decoder", root),
            "conv_bias": True,
            "norm_op": "torch.nn.InstanceNorm3d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "nonlin": "torch.nn.LeakyReLU",
        },
    }
