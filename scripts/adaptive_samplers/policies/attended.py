"""A shell command that ends with its owner: even a killed job leaves no training running."""

import subprocess
import sys

from adaptive_samplers.serving.launch import end_with


def main(owner: int, command: str) -> None:
    """Run a command in this process group, and end with its status.

    When the process `owner`, which must be the parent, is killed, so is the group.
    """
    end_with(owner)
    sys.exit(subprocess.call(["bash", "-euo", "pipefail", "-c", command]))
