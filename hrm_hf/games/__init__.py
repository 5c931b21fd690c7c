"""What makes puzzles and knows their games beyond what solving needs: generators, the exact solver, symmetries,
pictures. Imports hrm.
"""
