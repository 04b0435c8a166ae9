"""``python -m clusterdb.cache.cli``: the same as ``cache``."""

import sys

from . import main

sys.exit(main())
