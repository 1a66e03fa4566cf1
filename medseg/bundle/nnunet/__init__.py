"""Bring a trained nnU-Net v2 model: its folder becomes a bundle.

folder.py         which files there are        checkpoint.py      weights, never a pickle's code
plans.py          the configuration used       preprocessing.py   what its networks see
architecture.py   the network                  labels.py          classes or regions
described.py      metadata and model card      write.py           all of it as a bundle: `import_nnunet`

What nnU-Net can be told by classes of its user's own (trainers, planners, preprocessors, readers) is code and not in the
folder: such models are refused, saying which part it is.
"""

from medseg.bundle.nnunet.write import Imported, import_nnunet

__all__ = ["Imported", "import_nnunet"]
