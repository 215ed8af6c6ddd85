"""Checks of annotations and images: before a run (``detection_data``, ``class_folders``) or of a whole data set."""
