"""What holds for every test."""

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator

# The networks of the tests are too small to share out, and as many tests run at once as there are cores: one thread for
# this process and all that it starts, told before NumPy and PyTorch are loaded.
from hilsim.study.threads import single_threaded

single_threaded()

import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import settings  # noqa: E402

torch.set_num_threads(1)
settings.register_profile("fixed", derandomize=True, deadline=None)  # a test that fails now and then is a broken test
settings.load_profile("fixed")

# Compile plans are kept between commands, but not between test runs, and not in the user's own folder. Tests that run
# at once share them: workers inherit the folder of the process that started them, which also removes it.
if "HILSIM_CACHE" not in os.environ:
    os.environ["HILSIM_CACHE"] = tempfile.mkdtemp(prefix="hilsim-plans-")
    atexit.register(shutil.rmtree, os.environ["HILSIM_CACHE"], ignore_errors=True)


@pytest.fixture(autouse=True)
def _modules_begin_with_the_same_weights() -> None:
    """Modules that a test makes have drawn weights: the same in every run, and in whatever order tests run."""
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def at_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The folders of the tests lie in the user's home, so that code which a test writes there is the user's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.getbasetemp()))
        yield
