#!/usr/bin/env python3
"""Simulate one scenario: python simulate.py scenarios/orin_8295.yaml"""

import sys

from hilsim.commands.main import simulate_main

if __name__ == "__main__":
    sys.exit(simulate_main(sys.argv[1:]))
