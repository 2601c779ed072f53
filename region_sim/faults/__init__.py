"""What can break, one file a fault; each carries its own heal, and checks that both really happened."""
