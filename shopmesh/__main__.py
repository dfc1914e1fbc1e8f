"""`python -m shopmesh` is the command line."""

from shopmesh.cli import main

if __name__ == "__main__":
    main()
