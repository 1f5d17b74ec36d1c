"""A whole run: plan it, find out what the input is, do every stage, go on where it stopped."""
