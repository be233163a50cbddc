"""Where the data that comes with the kit lies: under submission/ in a checkout, inside the package in a wheel."""

from pathlib import Path

from rnafold.errors import InputError


def shipped_folder() -> Path:
    """The folder with slots.yaml, slots/ and weights/."""
    here = Path(__file__).resolve().parents[1]
    checkout = here.parent / "submission"
    return checkout if (checkout / "slots.yaml").is_file() else here / "_submission"


def find_slots(name: str | None) -> Path:
    """The slots file for `--slots NAME_OR_FILE`: a path, a name of submission/slots, or the default slots.yaml.

    Raises:
        InputError: neither a file nor a known name.
    """
    folder = shipped_folder()
    if name is None or name == "default":
        return folder / "slots.yaml"
    if Path(name).is_file():
        return Path(name)
    known = sorted(path.stem for path in (folder / "slots").glob("*.yaml"))
    if name in known:
        return folder / "slots" / f"{name}.yaml"
    raise InputError(f"--slots {name}: no such file, and no known name; known: default, {', '.join(known)}")


def find_shipped_weights() -> Path | None:
    """The network weights that come with the kit, None if there are none."""
    found = sorted((shipped_folder() / "weights").glob("*.safetensors"))
    return found[0] if found else None
