"""COCO files: contents as labeling tools write them, masks, reading of large files, samples shared by processes."""
