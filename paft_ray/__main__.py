"""`python -m paft_ray` is `paft`, also where the package is shipped and not installed."""

from paft_ray.cli.main import main

if __name__ == "__main__":
    main()
