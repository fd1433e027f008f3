"""The `t2v` command's entry: it imports nothing before it can say that it was stopped."""

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command; Ctrl-C while its libraries are read is one line, too."""
    try:
        from flows.cli.main import main as command

        command()
    except KeyboardInterrupt:
        print("t2v: stopped", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
