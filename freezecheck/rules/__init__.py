"""The mistakes freezecheck names, one a file."""
