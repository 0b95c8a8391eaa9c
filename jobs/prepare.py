"""`paft prepare` as a cluster job, with the same options.

ray job submit --working-dir . -- python jobs/prepare.py jobs/configs/demo.yaml --set storage=/shared/runs
"""

import sys

from paft_ray.cli.main import main

if __name__ == "__main__":
    main(["prepare", *sys.argv[1:]])
