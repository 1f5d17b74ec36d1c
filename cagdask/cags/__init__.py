"""Co-abundant gene groups: clustering a store, cutting its merge tree, assigning further genes."""
