"""Functions by their names, so that declarations load nothing."""

import re
from importlib import import_module
from pathlib import Path
from typing import Any

_LIBRARY = Path(__file__).resolve().parent


class Reference:
    """A function or class of this library, `package.module:name`; it is loaded when it is called.

    Raises
    ------
    TypeError
        If there is none.
    """

    def __init__(self, place: str) -> None:
        self.place = place
        module, _, name = place.partition(":")
        file = _LIBRARY.joinpath(*module.split(".")).with_suffix(".py")
        if not file.is_file() or not re.search(rf"^(def|class) {re.escape(name)}\b", file.read_text("utf-8"), re.M):
            raise TypeError(f"'{place}' is declared, but {file} defines no function or class '{name}'")

    def load(self) -> Any:
        """The function or class itself."""
        module, _, name = self.place.partition(":")
        return getattr(import_module(f"adaptive_samplers.{module}"), name)

    def __call__(self, *arguments: Any) -> Any:
        return self.load()(*arguments)
