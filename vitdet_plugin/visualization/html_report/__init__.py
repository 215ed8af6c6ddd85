"""The report of a training run as one HTML file without external resources."""
