"""The commands as a person types them, in this process, since the imports of one take seconds."""

import sys

import pytest

from flows.cli.main import main


def t2v(*arguments: object) -> None:
    """A command that ends well."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["t2v", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
    assert not ended.value.code, ended.value.code
