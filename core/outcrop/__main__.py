"""``python -m outcrop``: the command line, where its command is not on the path."""

from outcrop.cli.main import main

if __name__ == "__main__":
    main()
