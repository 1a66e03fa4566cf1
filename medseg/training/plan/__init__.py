"""`medseg plan`: from a labelled dataset to a bundle, with a reason for every decision.

plan            the whole: check, fingerprint, decisions, bundle
problems, sources, look, check, split, shape     the dataset: what is there, what is wrong, what it is like
spacing, normalisation, classes, patch, topology, memory, loss_choice, sampling, pace, anchors     a decision each
template, segmentation, instances, described, planned, card     the bundle as it is written
"""
