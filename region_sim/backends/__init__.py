"""Where a drill is carried out."""
