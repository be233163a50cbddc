"""rnafold: from the competition's CSVs to a scored, valid submission of RNA 3D structures."""

__version__ = "0.1.0"
