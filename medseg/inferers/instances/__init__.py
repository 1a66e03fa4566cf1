"""Instances of whole volumes: what comes after the network.

found.py    boxes, scores, classes and crops of masks     paste.py      masks into voxels, and one integer map
"""

from medseg.inferers.instances.found import Instances, MaskCrop
from medseg.inferers.instances.paste import label_map, paste, paste_all

__all__ = ["Instances", "MaskCrop", "label_map", "paste", "paste_all"]
