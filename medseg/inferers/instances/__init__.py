"""Instances of whole volumes: what comes before and after a network that finds them.

found.py      boxes, scores, classes, crops of masks    tiles.py        where tiles lie; the network over each
of_network.py from a network's output to instances      pieces.py       what a tile saw of an instance
paste.py      masks into voxels, and one integer map    links.py        which pieces are one instance
test_time.py  mirrors, sizes, ensembles                 merge.py        pieces become the volume's instances
centred.py    each once more, in a tile around it       samples.py      a whole volume, once or in several samples
stuff.py      classes without instances                 inferer.py      InstanceInferer: all of it

How sure is it?
dropout.py      samples of a tile by Monte Carlo dropout
association.py  which instances of several samples are one object
agreement.py    how often it was found, and what varies

Functions bear the names of their files and are imported from them: `from medseg.inferers.instances.merge import merge`.
"""

from medseg.inferers.instances.agreement import Agreement
from medseg.inferers.instances.found import Instances, MaskCrop
from medseg.inferers.instances.paste import LabelMap
from medseg.inferers.instances.test_time import Each, Flipped, Scaled, Several
from medseg.inferers.instances.tiles import Tile, View

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
]
