"""A file per sample: the sheet that lists them, reading them, and the dictionary of all their genes."""
