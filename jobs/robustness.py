"""`paft robustness` as a cluster job, with the same options.

ray job submit --working-dir . -- python jobs/robustness.py demo --task demo --out /shared/robustness
"""

import sys

from paft_ray.cli.main import main

if __name__ == "__main__":
    main(["robustness", *sys.argv[1:]])
