"""Rewrites of a graph, each a pure function ``Graph -> Graph`` that keeps what the network computes."""
