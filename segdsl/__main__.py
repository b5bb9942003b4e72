"""`python -m segdsl`: the command line."""

from segdsl.cli import main

if __name__ == "__main__":
    main()
