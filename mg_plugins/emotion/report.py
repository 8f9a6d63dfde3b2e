"""The report of an evaluation: one HTML file that needs nothing else, not even a network.

The page is ``report_template/``: its style and scripts are put inline, the figures and records go
in as one JSON block. Scripts write text nodes only, and the page's own Content-Security-Policy
names the hashes of its style and script: whatever a prompt or an answer holds, it does not run.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from mg_plugins.files import write_text

SCRIPTS = ('figures.js', 'cases.js')
# Fields of a record as they stand in the page. Texts repeat (one system text for thousands of
# questions), so the page holds each once and a record its number.
TEXTS = (
    'scenario',
    'subject',
    'arm',
    'system',
    'user',
    'reply',
    'status',
    'state',
    'truth',
    'text',
    'thoughts',
    'gestures_of',
)
PLAIN = (
    'draw',
    'rotation',
    'sample',
    'options',
    'choice',
    'confidence',
    'correct',
    'completeness',
    'depth',
    'grounded',
    'cited',
    'prompt_cut',
)


def write_report(
    path: str | os.PathLike,
    evaluations: Sequence[Mapping[str, Any]],
    records: Sequence[Sequence[Mapping[str, Any]]],
) -> None:
    """Write one self-contained HTML file, whole or not at all.

    Args:
        path: The file; its folder is made if it is not there.
        evaluations: Figures of each evaluated set, as ``evaluate`` gives them.
        records: The questions of each set, in the same order.

    Raises:
        ValueError: Not as many lists of records as evaluations.
    """
    write_text(path, render_report(evaluations, records))


def render_report(
    evaluations: Sequence[Mapping[str, Any]], records: Sequence[Sequence[Mapping[str, Any]]]
) -> str:
    """The HTML that :func:`write_report` writes; arguments and errors are the same."""
    if len(evaluations) != len(records):
        raise ValueError(
            f'{len(records)} lists of records for {len(evaluations)} evaluations: each evaluated '
            'set brings its own'
        )
    style = _template('style.css')
    script = "'use strict';\n(() => {\n" + '\n'.join(map(_template, SCRIPTS)) + '\n})();'
    policy = (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    parts = {
        'POLICY': policy,
        'STYLE': style,
        'DATA': _json(_content(evaluations, records)),
        'SCRIPT': script,
    }
    # One pass: a part that holds such a mark itself stays as it is.
    return re.sub('@@([A-Z]+)@@', lambda mark: parts[mark[1]], _template('page.html'))


def _content(evaluations: Sequence[Mapping], records: Sequence[Sequence[Mapping]]) -> dict:
    numbers: dict[str, int] = {}

    def number(text: Any) -> int | None:
        return None if text is None else numbers.setdefault(str(text), len(numbers))

    rows = [
        [[number(r.get(k)) for k in TEXTS] + [r.get(k) for k in PLAIN] for r in of_set]
        for of_set in records
    ]
    return {
        'evaluations': list(evaluations),
        'fields': [*TEXTS, *PLAIN],
        'texts': len(TEXTS),
        'strings': list(numbers),
        'records': rows,
    }


def _json(value: Any) -> str:
    """JSON for a script element: ASCII, no ``<``, ``>``, ``&``, no NaN."""
    text = json.dumps(_finite(value), separators=(',', ':'), allow_nan=False)
    for character in '<>&':
        text = text.replace(character, f'\\u{ord(character):04x}')
    return text


def _finite(value: Any) -> Any:
    """The same with None for numbers that JSON does not have, and plain numbers for NumPy's."""
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if hasattr(value, 'tolist'):
        return _finite(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _template(name: str) -> str:
    folder = resources.files('mg_plugins.emotion') / 'report_template'
    return (folder / name).read_text(encoding='utf-8')


def _digest(text: str) -> str:
    """A text's hash as a Content-Security-Policy names it."""
    return 'sha256-' + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
