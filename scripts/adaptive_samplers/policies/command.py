"""The training command of a config: the placeholders in it and what replaces them. Needs no package."""

import shlex
from collections.abc import Mapping

# What every command must be given; otherwise the iteration could not use what it trains.
REQUIRED_WORDS = ("data", "model", "output")


def variable(word: str) -> str:
    """The environment variable with the value of a word, such as `ITERATION_DATA` with that of `{data}`."""
    return f"ITERATION_{word.upper()}"


def filled_in(command: str, values: Mapping[str, str | int]) -> str:
    """The command with `{word}` replaced by its value, quoted for a shell; other braces stay as they are."""
    for word, value in values.items():
        command = command.replace(f"{{{word}}}", shlex.quote(str(value)))
    return command
