"""Prediction: models on streams of images, their results, and files with the results."""
