"""`python -m hilsim COMMAND`."""

import sys

from hilsim.commands.main import run_command_line

if __name__ == "__main__":
    sys.exit(run_command_line())
