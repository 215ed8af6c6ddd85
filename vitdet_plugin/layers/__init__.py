"""Pure layers and tensor functions shared by the backbones."""
