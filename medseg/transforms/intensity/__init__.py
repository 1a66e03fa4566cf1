"""Random changes of intensity, drawn for each channel and noted; noise, blur and bias field are several times as fast as
MONAI's, the others as fast or faster.

Brightness is not among them: MONAI's `RandScaleIntensityd` and `RandShiftIntensityd` are sound and take 0.3 ms.
"""

from medseg.transforms.intensity.bias_field import BiasField, RandBiasd, shade
from medseg.transforms.intensity.blur import Blur, RandBlurd, blur
from medseg.transforms.intensity.contrast import Contrast, RandContrastd, adjust_contrast
from medseg.transforms.intensity.gamma import Gamma, RandGammad, bend_gamma
from medseg.transforms.intensity.low_resolution import LowResolution, RandLowResolutiond, lower_resolution
from medseg.transforms.intensity.noise import Noise, RandNoised, add_noise

__all__ = [
    "BiasField",
    "Blur",
    "Contrast",
    "Gamma",
    "LowResolution",
    "Noise",
    "RandBiasd",
    "RandBlurd",
    "RandContrastd",
    "RandGammad",
    "RandLowResolutiond",
    "RandNoised",
    "add_noise",
    "adjust_contrast",
    "bend_gamma",
    "blur",
    "lower_resolution",
    "shade",
]
