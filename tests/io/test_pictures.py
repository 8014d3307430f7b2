from distilrec.core.cell import OPERATION, CellSpace
from distilrec.core.operations import OPERATIONS
from distilrec.io.drawing import draw_genotype
from distilrec.io.pictures import architecture_curves, rows_of


def _history(num_rows: int, num_depths: int) -> list[dict]:
    sizes = {"operation": (num_rows, len(OPERATIONS)), "depth": (1, num_depths)}
    probability = {name: [[1 / options] * options] * rows for name, (rows, options) in sizes.items() if options}
    entropy = {name: [1.0] * len(rows) for name, rows in probability.items()}
    return [{"epoch": epoch, "probability": probability, "entropy": entropy} for epoch in (1, 2)]


def test_few_choices_have_a_panel_each_and_many_a_map():
    space = CellSpace(3, 4, 8, 10)
    search = {"edges": space.edges, "operations": space.operations, "num_rows": 6, "num_depths": 4}
    panels = architecture_curves(_history(6, 4), rows_of(search))
    assert "input to node 1: entropy 1.00" in panels and "depth: entropy 1.00" in panels and "4 cells" in panels
    many = architecture_curves(_history(24, 4), rows_of(search | {"num_rows": 24}))
    assert "cell 4, node 2 to node 3" in many and "Probability at the end" in many


def test_cells_that_are_alike_are_drawn_once():
    names = list(OPERATIONS)
    space = CellSpace(3, 3, 8, 10, is_shared=False)
    one, other = (names.index("conv3"),) * 6, (names.index("identity"),) * 6
    drawing = draw_genotype(space.derive({OPERATION: one + one + other}), names)
    assert "cells 1 to 2, alike, of 3; 8 wide" in drawing and "cell 3 of 3" in drawing
