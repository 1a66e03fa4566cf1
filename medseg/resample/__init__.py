"""Fused resampling kernels: an image, a label map, or logits straight to labels, from one grid to another.

    resample_image      linear or cubic B-spline, any dtype -> float32
    resample_labels     the label with the greatest trilinear weight, dtype and values kept exactly
    labels_from_logits  argmax (or nested regions) of the interpolated logits, never stored at full resolution
    stretch             an image to another number of voxels between the same outer edges

How a target voxel finds its place in the source, and what happens outside it, stands in `mapping.py`. Nothing is
smoothed before down-sampling (as in MONAI's Spacing, `F.interpolate` and scipy). Kernels are compiled by numba
on their first call and kept on disk; they release the GIL and run on plain threads, so that forked workers and
several Python threads may call them at the same time.
"""

from medseg.resample.image import resample_image
from medseg.resample.labels import resample_labels
from medseg.resample.logits import labels_from_logits
from medseg.resample.stretch import stretch

__all__ = ["labels_from_logits", "resample_image", "resample_labels", "stretch"]
