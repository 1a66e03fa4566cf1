"""medseg segments medical volumes in 3D."""

__version__ = "0.1.0"
