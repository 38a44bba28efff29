"""The manifest: what the commands answer over the shipped files, to the last digit.

A change of shape leaves every value as it is; a change of behaviour is regenerated and says in CHANGES.md which values
moved and why. `python -m tests.golden` runs every command again, prints what changed and stores the new values;
`--check` only compares.

What is stored: numbers, booleans, null and identifiers (text without spaces and slashes) of the JSON and the tables
that a command writes, and its exit status. What is not: sentences, as wording may change; paths; versions, digests of
records, and wall times, which change with the program or the machine.

Live entries run networks in float32 on one thread. Another processor may add in another order, and where two tokens are
as good as equal the text, and every time after it, differs: `wall.json` names the processor the values were made on.
Only slow entries are live; the quick ones use recorded or synthetic tokens and integer time.
"""
