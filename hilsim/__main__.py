"""`python -m hilsim COMMAND`."""

import sys

from hilsim.commands.main import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
