"""The demo set, which is drawn, and the small pre-training for it. Installed as vitdet_plugin.demo."""
