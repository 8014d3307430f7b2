from dataclasses import replace

from distilrec.core.cell import OPERATION, CellSpace
from distilrec.core.operations import OPERATIONS
from distilrec.io.drawing import draw_genotype
from distilrec.io.pictures import architecture_curves


def _history(num_rows: int, num_depths: int) -> list[dict]:
    sizes = {"operation": (num_rows, len(OPERATIONS)), "depth": (1, num_depths)}
    probability = {name: [[1 / options] * options] * rows for name, (rows, options) in sizes.items() if options}
    entropy = {name: [1.0] * len(rows) for name, rows in probability.items()}
    return [{"epoch": epoch, "probability": probability, "entropy": entropy} for epoch in (1, 2)]


def test_few_choices_have_a_panel_each_and_many_a_map():
    shared = CellSpace(3, 4, 8, 10, is_depth_searched=True)
    panels = architecture_curves(_history(6, 4), shared.rows())
    assert "input to node 1: entropy 1.00" in panels and "depth: entropy 1.00" in panels and "4 cells" in panels
    many = architecture_curves(_history(24, 4), replace(shared, is_shared=False).rows())
    assert "cell 4, node 2 to node 3" in many and "Probability at the end" in many


def test_cells_that_are_alike_are_drawn_once():
    names = list(OPERATIONS)
    space = CellSpace(3, 3, 8, 10, is_shared=False)
    one, other = (names.index("conv3"),) * 6, (names.index("identity"),) * 6
    drawing = draw_genotype(space.derive({OPERATION: one + one + other}))
    assert "cells 1 to 2, alike, of 3; 8 wide" in drawing and "cell 3 of 3" in drawing
