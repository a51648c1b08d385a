"""Train from a checkout; `python train.py --help` says how. Many processes: accelerate launch train.py CONFIG …"""

import sys

from restyler.train import main

if __name__ == "__main__":
    sys.exit(main())
