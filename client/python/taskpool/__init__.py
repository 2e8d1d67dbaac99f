"""multiprocessing, on the workers of a daemon: `import taskpool as multiprocessing`."""

from .pool import Pool
