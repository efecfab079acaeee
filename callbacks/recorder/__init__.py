"""The loss recorder: a process of its own that writes, summarises and draws the losses of a run.

The trainer side (``client.py``) hands rows over through a bounded queue and a pipe and never waits; the
process (``python -m lit_rl.callbacks.recorder``) appends them to CSV files. Nothing here imports torch.
"""
