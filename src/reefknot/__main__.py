"""``python -m reefknot`` is the same as the script ``reefknot``."""

import sys

from reefknot.cli import main

sys.exit(main())
