"""The command line: one file a group. No science here."""
