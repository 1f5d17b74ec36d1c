"""What the programs ``scripts/benchmark*.py`` are made of: measuring, peers, and a module for each subject."""
