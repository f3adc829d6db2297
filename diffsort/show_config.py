"""`python -m diffsort.show_config`."""

from diffsort.config import show_config

if __name__ == "__main__":
    show_config()
