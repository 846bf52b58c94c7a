"""Running configs and keeping what they leave: store, artifacts, checkpoints, executors, sweeps, publishing, ledger.

Nothing here knows a particular post, and nothing here imports torch before a run needs it, so that a notebook can read
published records on a machine without it.
"""
