"""python train.py --config configs/NAME.py: the same as `jaxep train`, see jaxep/cli.py."""

from jaxep.cli import main

if __name__ == "__main__":
    main()
