"""Scores of segmentations: exact, named with their definition, in mm and mL. Needs neither torch nor MONAI."""
