"""Where pieces of work run, and on how many cores."""
