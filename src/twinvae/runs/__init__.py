"""A run: one configuration from scans to report, and many of them; `stages.py` comes first."""
