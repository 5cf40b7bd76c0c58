"""Is the paper of a run still true? `python -m adaptive_samplers.paper results/demo`"""

import argparse
import sys
from pathlib import Path

from adaptive_samplers.errors import UserError
from adaptive_samplers.paper.declaration import TEXT
from adaptive_samplers.paper.manifest import MANIFEST, what_has_changed


def main(arguments: list[str] | None = None) -> int:
    """Print what a paper is older than; 0 if nothing."""
    parser = argparse.ArgumentParser(prog="python -m adaptive_samplers.paper", description=__doc__)
    parser.add_argument("run", type=Path, help="a run's folder, such as results/demo")
    parser.add_argument("--text", type=Path, default=TEXT, help="the text's folder, if it is not report/paper")
    options = parser.parse_args(arguments)
    try:
        sentences = what_has_changed(options.run / "paper" / MANIFEST, options.text)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join(sentences) or "the paper is up to date with its text, tables and figures")
    return 1 if sentences else 0


if __name__ == "__main__":
    sys.exit(main())
