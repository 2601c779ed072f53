"""`meridian trace`: a request's way through the processes of all regions, with times."""
