"""Every speed that is claimed, measured beside a peer in the same run; `python -m bench --list`."""
