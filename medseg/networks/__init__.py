"""Networks that can be named in any MONAI bundle: they return predictions, losses stand apart."""

from medseg.networks.dropout import ChannelDropout
from medseg.networks.encoder import Encoder
from medseg.networks.located import LocatedUNet
from medseg.networks.mask_rcnn import MaskRCNN
from medseg.networks.monai_encoder import MonaiEncoder
from medseg.networks.nnunet import NnunetUNet
from medseg.networks.unet import UNet

__all__ = ["ChannelDropout", "Encoder", "LocatedUNet", "MaskRCNN", "MonaiEncoder", "NnunetUNet", "UNet"]
