"""`python -m ppo_fast`: the `ppo-fast` command."""

import sys

from ppo_fast.cli import main

if __name__ == "__main__":
    sys.exit(main())
