"""The operators and their derivatives, written once for every framework.

Nothing here imports an array library: arrays are known through what a backend hands in.
"""
