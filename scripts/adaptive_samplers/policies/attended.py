"""Run a shell command that ends with whom it works for: `python -m adaptive_samplers.policies.attended PID COMMAND`.

When the process PID, its parent, is killed, it and all that it started are killed too, in its process group.
"""

import subprocess
import sys

from adaptive_samplers.serving.launch import end_with

if __name__ == "__main__":
    end_with(int(sys.argv[1]))
    sys.exit(subprocess.call(["bash", "-euo", "pipefail", "-c", sys.argv[2]]))
