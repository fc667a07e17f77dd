"""The user's own training, watched as it runs: an unchanged script, or a loop inside `freezecheck.watch`."""
