"""`python -m paft_ray` is `paft`, also where the package is shipped and not installed."""

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    del sys.path[
        0
        # the working folder: a user's email.py or queue.py there would stand before Python's own; this package is found
        # already
    ]

from paft_ray.cli.start import main

if __name__ == "__main__":
    main()
