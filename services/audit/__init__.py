"""What a deployment wrote down for people: receipts and history, from its controllers or from its files."""
