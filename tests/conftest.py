"""What holds for every test."""

import atexit
import os
import shutil
import tempfile

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)  # the networks of the tests are too small to share out
settings.register_profile("fixed", derandomize=True, deadline=None)  # a test that fails now and then is a broken test
settings.load_profile("fixed")

# Compile plans are kept between commands, but not between test runs, and not in the user's own folder.
if "HILSIM_CACHE" not in os.environ:
    os.environ["HILSIM_CACHE"] = tempfile.mkdtemp(prefix="hilsim-plans-")
    atexit.register(shutil.rmtree, os.environ["HILSIM_CACHE"], ignore_errors=True)


@pytest.fixture(autouse=True)
def _modules_begin_with_the_same_weights() -> None:
    """Modules that a test makes have drawn weights: the same in every run, and in whatever order tests run."""
    torch.manual_seed(0)
