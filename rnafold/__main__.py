"""`python -m rnafold`."""

import sys

from rnafold.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
