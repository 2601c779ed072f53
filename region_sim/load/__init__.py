"""Apps outside the regions: what they say, when, and what they write down."""
