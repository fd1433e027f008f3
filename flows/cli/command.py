"""The `t2v` command's entry: it imports nothing before it can say that it was stopped."""

import sys

from t2v_models.ending import end_at_once


def main() -> None:
    """Run the command."""
    end_at_once(_command)


def _command() -> None:
    """Ctrl-C while its libraries are read is one line, too."""
    try:
        from flows.cli.main import main as command

        command()
    except KeyboardInterrupt:
        print("t2v: stopped", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
