"""Where workers run: `send(worker, work)` and `receive() -> Push`."""

from stale_adam.pools.contract import PoolClosed as PoolClosed
from stale_adam.pools.contract import WorkerHangs as WorkerHangs
from stale_adam.pools.contract import WorkerLost as WorkerLost
from stale_adam.pools.ray_cluster import Ray as Ray
from stale_adam.pools.threads import Threads as Threads
from stale_adam.pools.virtual import Virtual as Virtual
