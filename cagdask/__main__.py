"""``python -m cagdask`` is the command ``cagdask``."""

from cagdask.cli import main

if __name__ == "__main__":
    main()
