"""The judges of a drill. Each reads a history and nothing else, and says valid, invalid or unknown."""
