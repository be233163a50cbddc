"""`accelerate launch train.py --gpu t4 --data DIR`: the same as `python -m rnafold train`."""

import sys

from rnafold.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
