"""The experiments: base.py explains every key, each other file changes some of them."""
