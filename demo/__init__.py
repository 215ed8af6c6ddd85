"""The generated demo set and the pre-training of the demo's backbone. Installed as vitdet_plugin.demo."""
