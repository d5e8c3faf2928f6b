"""Reproduces Tables 1 to 5 and Figures 1 to 3, and goes beyond the paper.

  python -m experiments.paper.reproduce --scale=tiny

Makes every run that is missing, the most important first, and saves each one
when it is finished. Repeat the command to resume, also in the middle of a run.
Several processes at once share the runs. Then renders all tables and figures,
the checklist of the paper's claims, and a page to look at. About a day on two
processor cores at `tiny`, eight hours of it for the paper's tables and figures.
"""

from pathlib import Path

from experiments import command
from experiments.beyond import clusters, methods, optimizers, rates, workers
from experiments.page import site
from experiments.paper import (
  claims,
  factors,
  figure1,
  figure2,
  figure3,
  headline,
  table1,
  table2,
  table3,
  table4,
  table5,
  verdicts,
)

EXPERIMENTS = (
  headline,
  table3,
  table5,
  figure2,
  figure3,
  table1,
  table4,
  figure1,
  table2,
  factors,
  clusters,
  rates,
  workers,
  optimizers,
  methods,
)


def place(folder: Path) -> Path:
  """Where the page of results lies: not among files that are committed."""
  return Path('runs' if folder == Path('results') else folder) / 'page'


def main():
  records = command.execute_all(*EXPERIMENTS)
  if records:
    folder = command.directory()
    print('\n' + verdicts.write(claims.CLAIMS, folder, records))
    page = site.build(folder, place(folder), EXPERIMENTS, records)
    print(f'\nAll of it to look at: open {page}')


if __name__ == '__main__':
  command.start(main)
