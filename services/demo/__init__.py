"""`make quality` on a region of its own, and what `make demo` promises (`region_sim.demo` keeps it)."""
