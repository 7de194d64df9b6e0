"""python train.py --config configs/NAME.py: the same as `jaxep train`, see jaxep/cli.py."""

import sys

try:
    from jaxep.cli import main
except ModuleNotFoundError as error:
    sys.exit(f"error: {error}: install this checkout and what it needs by pip install -e .")

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
