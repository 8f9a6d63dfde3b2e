"""Tools run in this process, which saves the seconds that imports take."""

import runpy
import sys

import pytest

from paths import ROOT


def tool(name):
    """A function that runs ``tools/NAME.py`` with a list of arguments; returns the exit status."""

    def call(arguments):
        patch = pytest.MonkeyPatch()
        with patch.context() as here:
            here.syspath_prepend(str(ROOT / 'tools'))
            here.setattr(sys, 'argv', [f'{name}.py', *map(str, arguments)])
            with pytest.raises(SystemExit) as ended:
                runpy.run_path(str(ROOT / 'tools' / f'{name}.py'), run_name='__main__')
        return ended.value.code or 0

    return call
