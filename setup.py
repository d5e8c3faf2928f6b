"""Training with stale gradients: what it does, and what repairs it."""

from pathlib import Path

import setuptools

setuptools.setup(
  name='stale_adam',
  version='0.1.0',
  description=(
    'Asynchronous training of Transformers in JAX: exact staleness, '
    'accumulation, and the experiments of Aji & Heafield (2019)'
  ),
  long_description=Path(__file__).with_name('README.md').read_text('utf-8'),
  long_description_content_type='text/markdown',
  license='Apache-2.0',
  python_requires='>=3.11',
  packages=setuptools.find_packages(include=['stale_adam*']),
  install_requires=[
    'absl-py>=2',
    'flax>=0.12',
    'importlib_resources>=6',  # tensorflow-datasets needs it, unsaid.
    'jax>=0.10',
    'matplotlib>=3.9',
    'numpy>=2',
    'optax>=0.2.8',
    'sacrebleu>=2.5',
    'sentencepiece>=0.2',
    'tensorboardX>=2.6',
    'tensorflow-datasets>=4.9.8',
    'tqdm>=4.66',
  ],
  extras_require={
    'test': ['hypothesis>=6', 'pre-commit>=4', 'pytest>=8', 'ruff>=0.12'],
    'benchmark': ['torch>=2.6'],
    'wmt': ['tensorflow-cpu>=2.18'],
  },
)
