"""Figures of predictions, samples, reports and training curves."""
