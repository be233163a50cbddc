"""The table of habits: one file a row."""

from tests.data.habits import (
    HEADER,
    HISTORY,
    REVDAT,
    STRAND,
    SUGAR,
    Habit,
    Labels,
    Res,
    category,
    change,
    cif,
    pdb,
    scheme,
    seqres,
    sequence,
    strand,
    waters,
)

WHOLE = "A GGACUUCGC 9 of 9"
GAPPED = "A GGANNNCGC 6 of 9"
STARS = tuple(atom.replace("'", "*") for atom in SUGAR)
NO_RNA = "no RNA chain"
PSU = change(strand(), 4, name="PSU", row="HETATM")
AMBER = ["RG5", "RG", "RA", "RC", "RU", "RU", "RC", "RG", "RC3"]
CNS = {"G": "GUA", "A": "ADE", "C": "CYT", "U": "URI"}
DRIFTED = [*strand(STRAND[:3]), *strand(STRAND[6:], first=7, at=6)]
SECOND = strand("GCGAA", first=1, at=20)
OLD_HISTORY = category("database_PDB_rev", "num date date_original", "2 2009-02-24 .", "1 2004-12-28 2004-10-20")
ONLY_AUTH = "group_PDB id auth_atom_id auth_comp_id auth_asym_id auth_seq_id Cartn_x Cartn_y Cartn_z"
ONLY_LABEL = "group_PDB id label_atom_id label_comp_id label_asym_id label_seq_id Cartn_x Cartn_y Cartn_z"
BLANK = Labels(asym=".", seq="{i}", entity=".")


def _other_chain(residues: list[Res], chain: str) -> list[Res]:
    return [change([res], 0, chain=chain)[0] for res in residues]


HABITS = (
    Habit(
        "PDB archive",
        "PDB: HEADER, REVDAT, SEQRES, MODRES, modified residue as HETATM, waters after TER",
        "1xyz.pdb",
        "A GGACUUCGCA 9 of 10, 2004-12-28, 1XYZ",
        pdb(
            HEADER,
            REVDAT,
            seqres([*"GGAC", "PSU", *"UCGCA"]),
            "MODRES 1XYZ PSU A    5    U",
            PSU,
            "TER",
            waters(101, 4),
        ),
    ),
    Habit(
        "PDB archive",
        "before 2007: C1* for C1', residue +U where modified",
        "1xyz.ent",
        f"{WHOLE}, 2004-12-28, 1XYZ",
        pdb(HEADER, REVDAT, change(strand(atoms=STARS), 4, name="+U")),
    ),
    Habit(
        "PDB archive",
        "the mirror's own name and packing",
        "pdb1xyz.ent.gz",
        f"{WHOLE}, 2004-12-28, 1XYZ",
        pdb(HEADER, REVDAT, strand()),
    ),
    Habit(
        "PDB archive",
        "mmCIF: sequence scheme, revision history, ligand with the RNA's author id",
        "1xyz.cif",
        f"{WHOLE}, 2019-05-01, 1XYZ",
        cif(
            [*strand(first=11), Res(name="GTP", number="90", at=30, row="HETATM")],
            "_entry.id 1XYZ",
            HISTORY,
            scheme(STRAND),
            category("entity_poly", "entity_id type", "1 polyribonucleotide"),
        ),
    ),
    Habit(
        "PDB archive",
        "mmCIF before 2017: _database_PDB_rev",
        "old.cif",
        f"{WHOLE}, 2004-12-28",
        cif(strand(), OLD_HISTORY),
    ),
    Habit(
        "PDB archive",
        "mmCIF of an NMR entry: several models",
        "nmr.mmcif.gz",
        WHOLE,
        cif([*strand(), *strand(model=2, shift=0.5)], scheme(STRAND)),
    ),
    Habit(
        "PDB archive",
        "assembly as mmCIF: copies named A and A-2",
        "1xyz-assembly1.cif",
        "A GGACUUCGC 9 of 9; A-2 GGACUUCGC 9 of 9, 1XYZ",
        cif([*strand(), *strand(chain="A-2", shift=30.0)], "_entry.id 1XYZ", sequence(STRAND)),
    ),
    Habit(
        "PyMOL",
        "mmCIF: label_asym_id blank, label_seq_id the author's number",
        "pymol.cif",
        "A GGACUUCGC 9 of 9; B GCGAA 5 of 5",
        cif([*strand(first=31), *_other_chain(SECOND, "B")], labels=BLANK),
    ),
    Habit(
        "PyMOL",
        "mmCIF of several objects: one data block each, the same chain ids",
        "two.cif",
        "A GGACUUCGC 9 of 9; apo_A GCGAA 5 of 5",
        cif(strand(), labels=BLANK, name="holo") + cif(SECOND, labels=BLANK, name="apo"),
    ),
    Habit(
        "PyMOL",
        "PDB: no header, modified residue as HETATM without MODRES, waters in the chain",
        "pymol.pdb",
        WHOLE,
        pdb(PSU, "TER", waters(201, 3)),
    ),
    Habit(
        "Biopython",
        "MMCIFIO: a new label id after each HETATM, which has no label number",
        "biopython.cif",
        WHOLE,
        cif([*PSU[:4], *_other_chain(PSU[4:5], "A"), *PSU[5:]], labels=Labels(entity="?")),
    ),
    Habit(
        "Biopython",
        "PDBIO: atoms alone, a gap where residues are missing",
        "biopython.pdb",
        GAPPED,
        pdb(DRIFTED, "TER"),
    ),
    Habit(
        "gemmi",
        "mmCIF: label ids of its own (Axp) beside the author's",
        "gemmi.cif",
        WHOLE,
        cif([*strand(first=7), *waters(301, 2)], labels=Labels(asym="{chain}xp", seq="?")),
    ),
    Habit(
        "ChimeraX",
        "mmCIF: label numbers of the stated sequence, a gap in the atoms",
        "chimerax.cif",
        "A GGACUUCGC 6 of 9",
        cif(DRIFTED, sequence(STRAND), category("struct_asym", "id entity_id", "A 1"), labels=Labels(seq="{i}")),
    ),
    Habit(
        "ChimeraX",
        "PDB: SEQRES kept, chain cut",
        "chimerax.pdb",
        "A GGACUUCGC 4 of 9",
        pdb(seqres(STRAND), strand(STRAND[3:7], first=4, at=3)),
    ),
    Habit("Rosetta", "residues rA rC rG rU", "rosetta.pdb", WHOLE, pdb(strand([f"r{x}" for x in STRAND]))),
    Habit(
        "Rosetta",
        "a table of energies after the atoms",
        "farfar.pdb",
        WHOLE,
        pdb(strand(), "TER", "#BEGIN_POSE_ENERGIES_TABLE x.pdb", "label fa_atr fa_rep", "pose -1.0 2.0", end=""),
    ),
    Habit("SimRNA", "coarse-grained: no C1'", "simrna.pdb", "A GGACUUCGC 0 of 9", pdb(strand(atoms=("P", "C4'")))),
    Habit("3dRNA", "stars and no chain id", "3drna.pdb", WHOLE, pdb(strand(atoms=STARS, chain=" "))),
    Habit(
        "RNAComposer",
        "MODEL and ENDMDL, REMARKs, no SEQRES",
        "rnacomposer.pdb",
        WHOLE,
        pdb("REMARK   1 MODEL OF A TASK", "MODEL        1", strand(), "TER", "ENDMDL"),
    ),
    Habit("RhoFold+", "residues numbered from 0", "rhofold.pdb", WHOLE, pdb(strand(first=0), "TER")),
    Habit(
        "DRfold",
        "no END, coordinates the last columns",
        "drfold.pdb",
        WHOLE,
        "\n".join(line[:54] for line in pdb(strand(), end="").splitlines()),
    ),
    Habit(
        "trRosettaRNA",
        "modelled part numbered on in one chain, TER only at the end",
        "trrosettarna.pdb",
        WHOLE,
        pdb("MODEL 1", strand(), "TER", "ENDMDL"),
    ),
    Habit(
        "AlphaFold 3",
        "mmCIF: entity_poly, scheme, every chain author = label, ions with label number 1",
        "fold_x_model_0.cif",
        WHOLE,
        cif([*strand(), *waters(1, 1, name="MG", chain="B")], sequence(STRAND), scheme(STRAND)),
    ),
    Habit(
        "Boltz",
        "ModelCIF with pLDDT; numbers by label alone",
        "boltz_model_0.cif",
        WHOLE,
        cif(strand(), sequence(STRAND), columns=ONLY_LABEL),
    ),
    Habit(
        "Chai-1",
        "mmCIF with only label columns and no sequence",
        "pred.model_idx_0.cif",
        WHOLE,
        cif(strand(), columns=ONLY_LABEL),
    ),
    Habit("RNA3DB and other cut-outs", "only auth columns", "cutout.cif", GAPPED, cif(DRIFTED, columns=ONLY_AUTH)),
    Habit(
        "X-PLOR, CNS",
        "ADE CYT GUA URI, chains as segments",
        "cns.pdb",
        "RNAA GGACUUCGC 9 of 9; RNAB GCGAA 5 of 5",
        pdb(
            strand([CNS[x] for x in STRAND], chain=" ", segment="RNAA"),
            strand([CNS[x] for x in "GCGAA"], at=20, chain=" ", segment="RNAB"),
        ),
    ),
    Habit(
        "Amber",
        "RG5 .. RC3, no chain ids, TER between strands, numbers running on",
        "amber.pdb",
        "A GGACUUCGC 9 of 9; A.2 GC 2 of 2",
        pdb(strand(AMBER, chain=" "), "TER", strand(["RG5", "RC3"], first=10, at=20, chain=" "), "TER"),
    ),
    Habit(
        "Amber OL3",
        "G5 .. C3, Na+ and WAT as ATOM",
        "ol3.pdb",
        WHOLE,
        pdb(strand(["G5", *STRAND[1:8], "C3"]), waters(10, 3, "Na+", "ATOM"), waters(13, 90, "WAT", "ATOM")),
    ),
    Habit(
        "GROMACS",
        "SOL and NA as ATOM in the same chain, each molecule numbered from 1",
        "gromacs.pdb",
        "A GGACUUCGC 9 of 9; A.2 GCGAA 5 of 5",
        pdb(
            "MODEL        1",
            strand(AMBER, chain=" "),
            [change([res], 0, chain=" ")[0] for res in SECOND],
            waters(1, 40, "SOL", "ATOM", " "),
            "ENDMDL",
        ),
    ),
    Habit(
        "OpenMM",
        "mmCIF: waters with label numbers in the RNA's chain",
        "openmm.cif",
        WHOLE,
        cif([*strand(), *waters(10, 60, row="ATOM")]),
    ),
    Habit(
        "CHARMM",
        "GUA ADE CYT URA, chains as segments",
        "charmm.pdb",
        "RNA GGACUUCGC 9 of 9",
        pdb(strand([CNS[x].replace("URI", "URA") for x in STRAND], chain=" ", segment="RNA")),
    ),
    Habit("VMD", "every residue HETATM", "vmd.pdb", WHOLE, pdb(strand(row="HETATM"))),
    Habit(
        "Phenix",
        "two-letter chain ids; alternate locations listed one after the other",
        "phenix.pdb",
        "AA GGACUUCGC 9 of 9",
        pdb(
            [
                *strand(chain="AA")[:8],
                *change(strand(chain="AA"), 8, alternate="A", occupancy=0.4)[8:],
                *change(strand(chain="AA"), 8, alternate="B", occupancy=0.6, shift=0.5)[8:],
            ]
        ),
    ),
    Habit(
        "Model servers",
        "MODEL without ENDMDL, several predictions in one file",
        "servers.pdb",
        WHOLE,
        pdb("MODEL        1", strand(), "MODEL        2", strand(shift=0.5), "MODEL        3", strand(shift=1.0)),
    ),
    Habit(
        "Coarse writers",
        "one number for all residues",
        "numbers.cif",
        WHOLE,
        cif(strand(), labels=Labels(seq="1"), columns=ONLY_LABEL),
    ),
    Habit(
        "Text editors",
        "an author's name in Latin-1, a letter that is no ASCII in an atom's line",
        "latin.pdb",
        WHOLE,
        pdb("AUTHOR    J.MÜLLER", strand(), end="").replace("      P\n", "      Å\n", 1).encode("latin-1"),
    ),
    Habit("Coot", "modified residues listed after the chain", "coot.pdb", WHOLE, pdb([*PSU[:4], *PSU[5:]], PSU[4:5])),
    Habit(
        "tRNA numbering",
        "insertion code 3A, number 0 and 5 left out where residues are bonded",
        "trna.pdb",
        WHOLE,
        pdb([change(strand(), i, number=n)[i] for i, n in enumerate(["-1", "1", "2", "3", "3A", "4", "6", "7", "8"])]),
    ),
    Habit("QRNAS, editors", "lower-case residue names", "lower.pdb", WHOLE, pdb(strand(STRAND.lower()))),
    Habit("DNA editors", "RNA written with T", "thymine.pdb", WHOLE, pdb(strand(STRAND.replace("U", "T")))),
    Habit(
        "PDB archive",
        "DNA before 2007: A C G T, sugars without O2'",
        "dna.pdb",
        NO_RNA,
        pdb(strand(STRAND.replace("U", "T"), atoms=("P", "C4'", "O3'", "C2'", "C1'"))),
    ),
    Habit(
        "Header tools",
        "SEQRES written twice",
        "twice.pdb",
        GAPPED.replace("NNN", "CUU"),
        pdb(seqres(STRAND), seqres(STRAND), DRIFTED),
    ),
    Habit(
        "Riboswitch entries",
        "GTP and C2E as ATOM in the RNA's chain, without SEQRES",
        "ligand.pdb",
        WHOLE,
        pdb(strand(), [Res(name="GTP", number="10", at=30), Res(name="C2E", number="11", at=40)]),
    ),
    Habit(
        "In-vitro transcripts",
        "GTP as first residue, bonded to the next",
        "transcript.pdb",
        WHOLE,
        pdb(change(strand(), 0, name="GTP", row="HETATM")),
    ),
    Habit(
        "Windows editors",
        "byte-order mark, CR LF",
        "windows.pdb",
        WHOLE,
        b"\xef\xbb\xbf" + pdb(strand()).replace("\n", "\r\n").encode(),
    ),
    Habit("File managers", "mmCIF under a name that says PDB", "renamed.pdb", WHOLE, cif(strand())),
    Habit(
        "Broken transfers",
        "packed file cut off",
        "cut.cif.gz",
        "cannot be unpacked (Compressed file ended before the end-of-stream marker was reached)",
        b"\x1f\x8b\x08\x00cut",
    ),
    Habit(
        "Broken transfers",
        "name without the .gz of its packing",
        "packed.cif",
        "packed by gzip, expected a name that ends in .gz",
        b"\x1f\x8b\x08\x00",
    ),
    Habit(
        "Broken transfers",
        "PDB line cut off",
        "cut.pdb",
        "line 14: '14.500   1.0', expected three coordinates in columns 31-54",
        "\n".join(pdb(strand()).splitlines()[:14])[:-34],
    ),
    Habit(
        "Overflowing writers",
        "stars for a coordinate",
        "stars.pdb",
        "line 18: '********   3.000   0.000', expected three coordinates in columns 31-54",
        pdb(strand()).replace("  14.000", "********"),
    ),
    Habit(
        "Diverged simulations",
        "NaN for a coordinate",
        "nan.cif",
        "atom 18, chain A residue A: coordinates 'nan 3.000 0.000', expected three numbers",
        cif(strand()).replace(" 14.000 ", " nan "),
    ),
)
