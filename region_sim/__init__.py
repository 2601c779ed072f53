"""Breaking regions on purpose, and judging from the outside what became of the promises."""
