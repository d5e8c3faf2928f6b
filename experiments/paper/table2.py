"""Table 2: Adam slows down when gradients vary.

  python -m experiments.paper.table2

Claim (section 3 and Table 2): if gradients alternate between -1 and 2, Adam
needs six updates to reach the right side of 0. In the long run an update moves
a parameter by sign(E g) / sqrt(Var g / (E g)^2 + 1) learning rates. The paper's
caption says that all three sequences have the mean 1; the third has 0.5. In
each table the paper's numbers are above ours. Trains nothing; takes a few
seconds.
"""

import jax.numpy as jnp
import numpy as np
import optax

import stale_adam as sa
from experiments import command
from experiments.ledger.records import Records
from experiments.paper import printed as paper
from experiments.render import figures
from stale_adam import theory

RUNS = ()


def adam(gradients: list[float]) -> dict[str, np.ndarray]:
  """Each quantity of Table 2, before the first update and after each one."""
  optimizer = sa.adam(0.001, b1=0.9, b2=0.98, eps=1e-30)
  theta, rows = jnp.zeros(()), [(0.0,) * 5]
  state = optimizer.init(theta)
  for count, g in enumerate(gradients, start=1):
    delta, state = optimizer.update(jnp.float32(g), state, theta)
    theta = optax.apply_updates(theta, delta)
    m, v = float(state[0].mu), float(state[0].nu)
    m_hat, v_hat = m / (1 - 0.9**count), v / (1 - 0.98**count)
    rows.append((m, v, m_hat, v_hat, float(theta)))
  names = ('m', 'v', 'm_hat', 'v_hat', 'theta')
  return dict(zip(names, np.array(rows).T, strict=True))


def report(_: Records) -> str:
  """Table 2 by sequence, our largest difference from it, and Adam's pace."""
  parts, furthest, paces = [], 0.0, []
  for sequence, printed in paper.TABLE2.items():
    g, found = printed['g'], adam(50 * printed['g'])
    rows = [['g', *(f'{x:g}' for x in g)]]
    for name, values in found.items():
      ours, theirs = values[1:7], printed[name][1:]
      rows.append([f'{name}, paper', *(f'{x:.3f}' for x in theirs)])
      rows.append([f'{name}, ours', *(f'{x:.5f}' for x in ours)])
      furthest = max(furthest, np.abs(ours - theirs).max())
    parts.append(figures.table([sequence, *'123456'], rows))
    pace = (found['theta'][150] - found['theta'][300]) / 150 / 0.001
    mean, variance = np.mean(g), np.var(g)
    numbers = [mean, variance, pace, theory.adam_pace(mean, variance)]
    paces.append([sequence, *(f'{x:.3f}' for x in numbers)])
  verdict = 'all' if furthest <= 5e-4 else 'not all'
  parts.append(f'Largest difference {furthest:.1e}; {verdict} within 5e-4.')
  header = ['gradients', 'mean', 'variance', 'pace, updates 151 to 300']
  parts.append(figures.table([*header, 'section 3'], paces))
  return '\n\n'.join(parts)


if __name__ == '__main__':
  command.main(__name__)
