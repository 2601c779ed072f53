"""Images for a deployment in containers, where they can be pulled and where they cannot."""
