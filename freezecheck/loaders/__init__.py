"""The forms a target can take, one a file."""
