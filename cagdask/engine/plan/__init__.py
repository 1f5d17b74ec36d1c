"""What a clustering needs: memory of each kind of task, and the cost to expect."""
