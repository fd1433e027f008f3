"""The commands as a person types them, in this process, since the imports of one take seconds."""

import os
import sys

import pytest

from flows.cli.main import main


def t2v(*arguments: object) -> None:
    """A command that ends well."""
    code = ended(*arguments)
    assert not code, code


def ended(*arguments: object) -> int:
    """The exit code of a command; what it tells Prefect and MLflow by the environment is taken back."""
    before = set(os.environ)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["t2v", *map(str, arguments)])
            with pytest.raises(SystemExit) as end:
                main()
    finally:
        for name in set(os.environ) - before:
            del os.environ[name]
    return int(end.value.code or 0)
