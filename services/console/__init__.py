"""The console: one web page that an operator keeps open."""
