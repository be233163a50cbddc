"""The four physics terms on the validation targets before and after training, and their gradient norms at the start.

    python benchmarks/physics.py --data DIRECTORY --weights runs/NAME/best.safetensors

"Before" is a freshly initialised network of the same configuration. Each row: mean over the targets of the unweighted
term of one prediction from the same start; the norm is of the term's gradient over all parameters of the fresh network.
"""

import argparse
from pathlib import Path

import torch

from rnafold.config.settings import DataConfig, ModelConfig
from rnafold.data.competition import read_entries
from rnafold.data.files import find_competition_files
from rnafold.features.batch import collate
from rnafold.features.source import FeatureSource, prediction_example
from rnafold.model.losses import PHYSICS_TERMS, measure_physics
from rnafold.model.network import PairNetwork, PlainNetwork, build_network
from rnafold.model.weights import load_network, read_model_config
from rnafold.training.starts import build_start


def build_fresh(config: ModelConfig, seed: int) -> PairNetwork | PlainNetwork:
    """A network of the configuration as training with that seed begins."""
    torch.manual_seed(seed)
    return build_network(config)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--cache", default=".cache/rnafold")
    arguments = parser.parse_args()
    files = find_competition_files(arguments.data, required=("validation_sequences", "validation_labels"))
    assert files.validation_sequences is not None and files.validation_labels is not None
    entries = read_entries(files.validation_sequences, files.validation_labels)
    features = FeatureSource(DataConfig(cache=arguments.cache), files.msa_folders)
    features.prepare([e.target for e in entries])
    trained = load_network(arguments.weights)
    fresh = build_fresh(read_model_config(arguments.weights), 0)
    sums: dict[str, list[float]] = {name: [0.0, 0.0, 0.0, 0.0] for name in PHYSICS_TERMS}
    for entry in entries:
        start = build_start(entry.target, features.pairings[entry.target.target_id], 0)
        batch = collate([prediction_example(entry.target, features, start)])
        output = fresh(batch)
        terms = measure_physics(output.coords[:, :, 0], batch, batch.mask)
        with torch.no_grad():
            after = measure_physics(trained(batch).coords[:, :, 0], batch, batch.mask)
            begin = measure_physics(batch.start[:, :, 0], batch, batch.mask)
        for name in PHYSICS_TERMS:
            gradients = torch.autograd.grad(
                terms[name].sum(), list(fresh.parameters()), retain_graph=True, allow_unused=True
            )
            norm = sum(float(g.square().sum()) for g in gradients if g is not None) ** 0.5
            values = (float(begin[name]), float(terms[name].detach()), float(after[name]), norm)
            sums[name] = [a + b for a, b in zip(sums[name], values)]
    print(f"{len(entries)} targets; mean unweighted terms")
    print(f"{'term':14s}{'start':>10s}{'before':>10s}{'after':>10s}{'gradient norm before':>24s}")
    for name, totals in sums.items():
        start_value, before, last, norm = (value / len(entries) for value in totals)
        print(f"{name:14s}{start_value:10.4f}{before:10.4f}{last:10.4f}{norm:24.4g}")


if __name__ == "__main__":
    main()
