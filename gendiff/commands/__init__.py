"""The commands: a file each, with its options (``arguments``) and what it does (``call``).

The first line of a file is what ``--help`` says. Heavy imports wait for the call.
"""
