"""From secondary structure to C1' coordinates: ideal stems, loop fragments, and what a template lacks."""

from rnafold.assembly.build import FragmentSource, assemble, build_model
from rnafold.assembly.loops import find_loops, find_pairs, split_knots

__all__ = ["FragmentSource", "assemble", "build_model", "find_loops", "find_pairs", "split_knots"]
