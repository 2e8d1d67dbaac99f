"""The program of the python runtime: `python3 -m taskpool.runtime`, or this file by its path."""

import os
import sys

if __name__ == "__main__":
    if not __package__:  # by its path: the package is not on the module path, and this directory must not be
        sys.path[0] = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    from taskpool.runtime.zygote import main

    sys.exit(main())
