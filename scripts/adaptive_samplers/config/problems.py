"""What is wrong with a config, collected so that everything is reported at once."""

from collections.abc import Iterable

from adaptive_samplers.errors import UserError

KeyPath = tuple[str | int, ...]


class Problems:
    """What is wrong with a config, at most one problem for each key."""

    def __init__(self) -> None:
        self._found: dict[KeyPath, str] = {}

    def add(self, path: KeyPath, message: str) -> None:
        """Add a problem with the value under a key, unless one is already known."""
        self._found.setdefault(path, message)

    def clean(self, *path: str | int) -> bool:
        """Whether nothing is known to be wrong with a value, with what contains it, or with what it contains."""
        return not any(all(a == b for a, b in zip(path, known, strict=False)) for known in self._found)

    def raise_if_any(self) -> None:
        """Raise one UserError that lists everything."""
        if self._found:
            count = "a problem" if len(self._found) == 1 else f"{len(self._found)} problems"
            # Numbers sort by value and never meet text: a key's children are either named or numbered.
            found = sorted(self._found.items(), key=lambda item: [(type(key).__name__, key) for key in item[0]])
            lines = [f"  {_on_one_line(f'{dotted(path)}: {message}')}" for path, message in found]
            raise UserError("\n".join([f"The config has {count}:", *lines]))


def _on_one_line(text: str) -> str:
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def dotted(path: Iterable[str | int]) -> str:
    """A key's path as users write it, such as `heuristics.grid[2].values[0]`."""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)
    return text.removeprefix(".")
