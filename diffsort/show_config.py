"""`python -m diffsort.show_config`."""

import sys

from diffsort.config import show_config

if __name__ == "__main__":
    show_config()
else:
    # Importing a submodule binds its name in the package, where `show_config` is the function: what
    # the import finds here is what gets bound.
    sys.modules[__name__] = show_config  # type: ignore[assignment]
