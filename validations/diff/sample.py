"""A quick look: some ranges of each table, chosen at random. It finds damage that is all over, and proves nothing."""

from __future__ import annotations

import math
import random
from dataclasses import replace

from validations.diff.model import Range, Ranges, Segment, Share
from validations.diff.plan import TablePlan


def sampled(plan: TablePlan, fraction: float, chosen: random.Random) -> TablePlan:
    """The plan with about this part of its rows, at least one range; a table of one range is compared whole.

    :param fraction: above 0, at most 1.
    """
    ranges: list[Range] = []
    for segment in plan.segments:
        match segment.extent:
            case Ranges() as extent:
                ranges += extent.split()
            case Share():  # the rows are told apart in a scan of all: the hash of the key costs less than that of a row
                of = 1 << max(0, math.floor(math.log2(1 / fraction)))
                return replace(plan, segments=(Segment(plan.table, 0, Share(chosen.randrange(of), of)),))
    some = sorted(chosen.sample(range(len(ranges)), math.ceil(len(ranges) * fraction)))
    segments = (Segment(plan.table, n, Ranges(ranges[at].lower, ranges[at].upper)) for n, at in enumerate(some))
    return replace(plan, segments=tuple(segments))
