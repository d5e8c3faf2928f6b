"""Training with stale gradients: what it does, and what repairs it."""

import re
from pathlib import Path

import setuptools

HERE = Path(__file__).parent


def version() -> str:
  """The package's `__version__`, read without importing the package."""
  source = (HERE / 'stale_adam' / '__init__.py').read_text('utf-8')
  return re.search(r"^__version__ = '(.+?)'", source, re.MULTILINE)[1]


setuptools.setup(
  name='stale_adam',
  version=version(),
  description=(
    'Asynchronous training of Transformers in JAX: exact staleness, '
    'accumulation, and the experiments of Aji & Heafield (2019)'
  ),
  long_description=(HERE / 'README.md').read_text('utf-8'),
  long_description_content_type='text/markdown',
  author='The stale_adam developers',
  project_urls={'Paper': 'https://doi.org/10.18653/v1/D19-5608'},
  license='Apache-2.0',
  keywords='asynchronous training, stale gradients, JAX, optax, translation',
  classifiers=[
    'Development Status :: 4 - Beta',
    'Intended Audience :: Science/Research',
    'Operating System :: POSIX :: Linux',
    'Programming Language :: Python :: 3',
    'Programming Language :: Python :: 3.11',
    'Programming Language :: Python :: 3.12',
    'Programming Language :: Python :: 3.13',
    'Topic :: Scientific/Engineering :: Artificial Intelligence',
    'Typing :: Typed',
  ],
  python_requires='>=3.11',
  packages=setuptools.find_packages(include=['stale_adam*']),
  package_data={'stale_adam': ['py.typed']},
  install_requires=[
    'absl-py>=2',
    'flax>=0.12',
    'importlib_resources>=6',  # tensorflow-datasets needs it, unsaid.
    'jax>=0.10',
    'jinja2>=3.1',
    'markdown-it-py>=3',
    'matplotlib>=3.9',
    'numpy>=2',
    'optax>=0.2.8',
    'plotly>=6',
    'sacrebleu>=2.5',
    'scipy>=1.11',
    'sentencepiece>=0.2',
    'tensorboardX>=2.6',
    'tensorflow-datasets>=4.9.8',
    'tqdm>=4.66',
  ],
  extras_require={
    'test': [
      'axe-playwright-python>=0.1.7',
      'hypothesis>=6',
      'jupytext>=1.16',
      'mypy>=2.4',
      'playwright>=1.50',
      'pre-commit>=4',
      'pytest>=8',
      'pytest-xdist>=3.6',
      'ruff>=0.12',
    ],
    'benchmark': ['torch>=2.6'],
    'cluster': ['ray>=2.55'],
    'wmt': ['tensorflow-cpu>=2.18'],
  },
)
