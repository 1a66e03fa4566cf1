"""Seeded volumes with known instances, for training on a laptop and for tests: `make(preset, seed, size)`."""

from phantoms.presets import PRESETS, Phantom, make

__all__ = ["PRESETS", "Phantom", "make"]
