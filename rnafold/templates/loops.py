"""The loops of a library's chains: what `assembly` joins stems with."""

import functools
from collections.abc import Sequence
from typing import overload

import numpy as np

from rnafold.assembly.fragments import FragmentLibrary
from rnafold.assembly.rings import FragmentChain, Residues
from rnafold.files.budget import Budget
from rnafold.structure import IntArray
from rnafold.templates.library import TemplateLibrary

# Chains of which loops were asked for lately.
CHAINS_KEPT = 4096


class LibraryChains(Sequence[FragmentChain]):
    """Chains of a library to cut loops from, each made when it is asked for: a loaded library is at hand at once."""

    def __init__(self, library: TemplateLibrary, chains: IntArray) -> None:
        self.library, self.chains = library, chains
        self._get = functools.lru_cache(maxsize=CHAINS_KEPT)(self._make)

    def __len__(self) -> int:
        return len(self.chains)

    @overload
    def __getitem__(self, index: int) -> FragmentChain: ...
    @overload
    def __getitem__(self, index: slice) -> list[FragmentChain]: ...
    def __getitem__(self, index: int | slice) -> FragmentChain | list[FragmentChain]:
        if isinstance(index, slice):
            return [self._get(int(chain)) for chain in self.chains[index]]
        return self._get(int(self.chains[index]))

    @property
    def residues(self) -> Residues:
        """Where the chains' residues are: the arrays of the library itself."""
        library = self.library
        first, length = library.first_residue[self.chains], library.chain_length[self.chains]
        return Residues(tokens=library.tokens, coords=library.coords, first=first, length=length)

    def _make(self, chain: int) -> FragmentChain:
        """A chain whose residues stay where the library keeps them."""
        library = self.library
        rows, entry = library.chain_rows(chain), int(library.chain_entry[chain])
        return FragmentChain(
            chain_id=library.ids[entry],
            group=library.groups[entry],
            codes=library.codes[entry],
            released=library.chain_date(chain),
            tokens=library.tokens[rows],
            coords=library.coords[rows],
            partner=library.chain_partner(chain),
        )


def choose_chains(library: TemplateLibrary, shortest: int = 8) -> LibraryChains:
    """The first copy of every chain with at least `shortest` residues and two pairs."""
    usable = (library.chain_length >= shortest) & (library.chain_copy <= 1)
    fine = [int(c) for c in np.flatnonzero(usable) if (library.chain_partner(int(c)) >= 0).sum() >= 4]
    return LibraryChains(library, np.array(fine, dtype=np.int64))


def build_fragments(library: TemplateLibrary, budget: Budget | None = None) -> FragmentLibrary:
    """All loops of the library, or those cut in time; restrict them by the gate of the templates before use."""
    chains = choose_chains(library)
    return FragmentLibrary.build(chains, chains.residues, budget)
