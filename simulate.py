#!/usr/bin/env python3
"""Simulate one scenario: python simulate.py scenarios/orin_8295.yaml"""

import sys

from hilsim.commands.main import run_script

if __name__ == "__main__":
    sys.exit(run_script())
