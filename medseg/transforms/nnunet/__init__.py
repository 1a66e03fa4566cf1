"""nnU-Net's preprocessing and the way back, so that its trained networks see here what they saw there."""

from medseg.transforms.nnunet.grid import FromNnunetGridd, ToNnunetGridd
from medseg.transforms.nnunet.normalise import normalise
from medseg.transforms.nnunet.resize import Resizing, resize

__all__ = ["FromNnunetGridd", "Resizing", "ToNnunetGridd", "normalise", "resize"]
