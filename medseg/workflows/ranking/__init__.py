"""The steps of `medseg rank`: look at a case, put the pool in order, say why, write it down."""
