"""Metrics, reports and complexity measurements."""
