"""One region as a set of supervised processes: started in order, watched, restarted, ended without a trace."""
