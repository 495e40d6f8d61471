"""A worker in this process."""

from tests.worker.conftest import direct, work

__all__ = ["direct", "work"]
