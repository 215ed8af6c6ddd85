"""Pictures of predictions and of training curves."""
