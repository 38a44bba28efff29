"""What holds for every test."""

import torch
from hypothesis import settings

torch.set_num_threads(1)  # the networks of the tests are too small to share out
settings.register_profile("fixed", derandomize=True, deadline=None)  # a test that fails now and then is a broken test
settings.load_profile("fixed")
