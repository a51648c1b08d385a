"""`accelerate launch -m restyler.prepare` needs a module that runs."""

import sys

from restyler.prepare.command import main

sys.exit(main())
