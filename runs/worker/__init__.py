"""The worker: claim, execute, record; each step callable by itself, the loop only waits and listens."""
