"""Formulas of scores, the runner that scores a model on a file, and the faces of the `evaluate` library.

Imports hrm and data.
"""
