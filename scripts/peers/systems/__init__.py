"""The systems, in the order of their turns and of the tables."""

from system import System
from systems.beanstalkd import Beanstalkd
from systems.bullmq import BullMQ
from systems.celery_redis import Celery
from systems.postgres import Postgres
from systems.python_pools import Executor, Pool
from systems.redis_list import RedisList
from systems.shell import Parallel, Xargs
from systems.taskq import Taskq


def all_systems() -> list[System]:
    return [
        Taskq(),
        Xargs(),
        Parallel(),
        Executor(),
        Pool(),
        RedisList(),
        Postgres(),
        BullMQ(),
        Beanstalkd(),
        Celery(),
    ]
