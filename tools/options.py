"""What the command lines share. Nothing of ours is imported here, so that ``--help`` is quick."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path


def run(main: Callable[[], int | None], goes_on: str = '') -> None:
    """Run a tool: a user's error is one line, an interrupt is no traceback.

    Args:
        main: The tool; what it returns is the exit status.
        goes_on: Said on Ctrl-C, such as 'The same command goes on.'
    """
    name = Path(sys.argv[0]).name
    try:
        status = main()
        sys.stdout.flush()
    except KeyboardInterrupt:
        print(f'\n{name}: stopped. {goes_on}'.rstrip(), file=sys.stderr)
        status = 130
    except BrokenPipeError:
        # Whoever read the output has closed it, as `head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    except Exception as error:
        if 'UserError' not in {kind.__name__ for kind in type(error).__mro__}:
            raise
        print(f'{name}: {error}', file=sys.stderr)
        status = 1
    sys.exit(status)
