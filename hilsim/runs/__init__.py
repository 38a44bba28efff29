"""Runs of one scenario: its sources of tokens, the target alone and the policy, live or replayed."""
