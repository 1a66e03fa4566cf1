"""Networks that can be named in any MONAI bundle: they return predictions, losses stand apart."""

from medseg.networks.dropout import ChannelDropout
from medseg.networks.encoder import Encoder
from medseg.networks.unet import UNet

__all__ = ["ChannelDropout", "Encoder", "UNet"]
