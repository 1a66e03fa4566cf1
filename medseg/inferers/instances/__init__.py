"""Instances of whole volumes: what comes before and after a network that finds them.

found.py      boxes, scores, classes, crops of masks    tiles.py        where tiles lie; the network over each
of_network.py from a network's output to instances      pieces.py       what a tile saw of an instance
paste.py      masks into voxels, and one integer map    links.py        which pieces are one instance
test_time.py  mirrors, sizes, ensembles                 merge.py        pieces become the volume's instances

How sure is it?
association.py  which instances of several samples are one object
agreement.py    how often it was found, and what varies
"""

from medseg.inferers.instances.agreement import Agreement, agreement, entropy_map
from medseg.inferers.instances.found import Instances, MaskCrop
from medseg.inferers.instances.merge import at_least, merge
from medseg.inferers.instances.paste import LabelMap, label_map, paste, paste_all
from medseg.inferers.instances.test_time import Each, Flipped, Scaled, Several
from medseg.inferers.instances.tiles import Tile, View, sampled_views, tiles, views

__all__ = [
    "Agreement",
    "Each",
    "Flipped",
    "Instances",
    "LabelMap",
    "MaskCrop",
    "Scaled",
    "Several",
    "Tile",
    "View",
    "agreement",
    "at_least",
    "entropy_map",
    "label_map",
    "merge",
    "paste",
    "paste_all",
    "sampled_views",
    "tiles",
    "views",
]
