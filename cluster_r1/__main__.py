"""`python -m cluster_r1` is the command line."""

from cluster_r1.cli import main

if __name__ == "__main__":
    main()
