"""`make demo` and `make quality`: a region of its own, real or made-up events, and a verdict at the end."""
