"""`python -m hilsim COMMAND`."""

import sys

from hilsim.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
