"""3D boxes: the one convention (`convention.py`), overlaps, suppression, clustering, anchors.

    convention   what a box is; boxes of an instance map; centres, sizes, volumes, millimetres
    overlap      IoU, GIoU, intersection, intersection over the smaller
    nms          hard suppression, in all or by class
    soft_nms     scores fall with overlap instead
    clustering   boxes that mean one object become their weighted mean
    crops        masks as crops: overlap and suppression voxel by voxel
    anchors      reference boxes of a detector
    anchor_sizes their sizes, fitted to a data set

Functions take torch tensors on any device and accept 0 boxes. Import them from their files:
`from medseg.boxes.nms import nms`.
"""
