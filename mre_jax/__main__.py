"""`python -m mre_jax` is `mre`."""

import sys

from mre_jax.cli import main

sys.exit(main())
