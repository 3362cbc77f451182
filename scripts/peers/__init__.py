"""The programs that `bench-peers.py` compares, one file for each, and what they run."""
