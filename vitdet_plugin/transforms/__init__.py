"""Pipeline transforms: large-scale jitter, mosaic, letterbox and others."""
