"""What the project needs from outside Python, and how it is run and watched."""
