"""Who imports the kernels: the room ``fusion`` alone."""

import ast

from paths import ROOT


def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.ImportFrom) and not node.level:
            yield from (f'{node.module}.{name.name}' for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def test_only_the_fusion_imports_the_kernels():
    rooms = set()
    for folder in ('mg_plugins', 'tools'):
        for path in (ROOT / folder).rglob('*.py'):
            if any(f'{name}.'.startswith('mg_plugins.kernels.') for name in imports(path)):
                rooms.add(path.relative_to(ROOT).parts[1])
    assert rooms == {'fusion'}


def test_imports_inside_the_kernels_are_relative():
    ground = ('mg_plugins.files.', 'mg_plugins.errors.')
    for path in (ROOT / 'kernels').rglob('*.py'):
        ours = [n for n in imports(path) if n.startswith(('mg_plugins', 'kernels'))]
        if path.name != 'run.py':
            assert all(f'{name}.'.startswith(ground) for name in ours), (path, ours)
