"""The forms a target can take, one a module; each defines `LOADER`."""
