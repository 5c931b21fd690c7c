"""What travels with a checkpoint.

The room is flat: its files import one another only, as `from .module import Name`, so that transformers can run them
as remote code.
"""
