"""What can be looked up about the system itself."""
