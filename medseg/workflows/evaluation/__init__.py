"""The steps of `medseg evaluate`: pair, name, score, tabulate, write."""
