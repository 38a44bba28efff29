"""Files of a checkpoint folder that need no PyTorch to be read."""

from hilsim.describe.config_json import read_object

__all__ = ["read_object"]
