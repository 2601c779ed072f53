"""Campaigns: many drills drawn from seeds, what they covered, and the smallest drill that still fails."""
