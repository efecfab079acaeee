"""Hierarchical multi-agent skill discovery (Yang et al. 2023, NeurIPS), one network per file."""
