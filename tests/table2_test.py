"""The committed comparison with Table 2 is what its command prints."""

from experiments import table2


def test_the_committed_table_is_ours_today():
  assert table2.report() == table2.OUT.read_text('utf-8'), (
    'run python -m experiments.table2, and say in the changelog what moved'
  )
