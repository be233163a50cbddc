"""Files are written whole or not at all, whoever writes them."""

import ast
import os
import stat
from pathlib import Path

import pytest

from rnafold.errors import InputError
from rnafold.files import atomic

PACKAGE = Path(__file__).resolve().parents[2] / "rnafold"


def list_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_and_its_folder_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file.txt"
    atomic.write_text(path, "one\r\n")
    atomic.write_text(path, "Å\n")
    assert path.read_bytes() == "Å\n".encode()
    assert list_names(path.parent) == ["file.txt"]


def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    atomic.write_text(path, "old")
    with pytest.raises(KeyboardInterrupt), atomic.replace_file(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list_names(tmp_path) == ["file.txt"]


def test_a_folder_that_fails_leaves_the_old_folder_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    with atomic.replace_folder(folder) as temporary:
        (temporary / "old").write_text("old")
    with pytest.raises(ZeroDivisionError), atomic.replace_folder(folder) as temporary:
        (temporary / "new").write_text("new")
        raise ZeroDivisionError
    assert list_names(folder) == ["old"]
    assert list_names(tmp_path) == ["folder"]


def test_a_folder_is_replaced_with_all_it_held(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    for name in ("first", "second"):
        with atomic.replace_folder(folder) as temporary:
            assert temporary.parent == folder.parent
            (temporary / name).write_text(name)
    assert list_names(folder) == ["second"]
    assert list_names(tmp_path) == ["folder"]


def test_the_umask_says_who_may_read_even_where_the_writer_says_otherwise(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        with atomic.replace_file(tmp_path / "file") as temporary:
            temporary.write_bytes(b"x")
            temporary.chmod(0o600)
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


@pytest.mark.parametrize("name", ["x" * 250, "Å" * 120])
def test_a_name_as_long_as_file_systems_take_is_written(tmp_path: Path, name: str) -> None:
    atomic.write_text(tmp_path / name, "x")
    assert list_names(tmp_path) == [name]


@pytest.mark.parametrize(
    "place",
    [
        "file/below.txt",
        "folder",
        pytest.param("closed/file.txt", marks=pytest.mark.skipif(os.getuid() == 0, reason="root")),
    ],
)
def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder" / "full").mkdir(parents=True)
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(InputError, match=r"^\S+: cannot be written \(.+\)$"):
        atomic.write_text(tmp_path / place, "text")
    assert list_names(tmp_path) == ["closed", "file", "folder"]


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match=r"file.txt: cannot be written \(No space left on device\)"),
        atomic.replace_file(tmp_path / "file.txt"),
    ):
        raise OSError(28, "No space left on device")
    assert not list_names(tmp_path)


def test_a_fault_of_another_file_that_a_block_reads_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic.replace_file(tmp_path / "file.txt") as temporary:
        temporary.write_bytes((tmp_path / "absent").read_bytes())


def test_temporary_names_are_known_as_such(tmp_path: Path) -> None:
    with atomic.replace_file(tmp_path / "file.txt") as temporary:
        assert atomic.is_temporary(temporary)
    assert not atomic.is_temporary(tmp_path / "file.txt")


def test_no_other_module_makes_or_renames_temporary_files() -> None:
    """`Path.replace` takes one argument, `str.replace` two."""
    hand_made = []
    for path in sorted(PACKAGE.rglob("*.py")):
        if path == PACKAGE / "files" / "atomic.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                renames = node.func.attr in ("rename", "mkstemp", "NamedTemporaryFile")
                if renames or (node.func.attr == "replace" and len(node.args) == 1 and not node.keywords):
                    hand_made.append(f"{path.relative_to(PACKAGE)}:{node.lineno}")
    assert not hand_made
