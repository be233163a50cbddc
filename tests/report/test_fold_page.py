"""The page that `fold` leaves: self-contained, said in words, drawn by a browser without a word on the console."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from rnafold.data.sequences import read_sequences
from rnafold.features.wishes import PairWishes
from rnafold.prediction.fold import FoldOptions, open_folder
from rnafold.report.arcs import Strip, draw_arcs, list_arcs
from rnafold.report.fold_page import superpose_on_first, write_fold
from rnafold.rna import parse_dot_bracket
from rnafold.scoring.tm import tm_score
from rnafold.structure import structure_from_points, whole_chain
from tests.pieces.browser import CHROMIUM, open_page

# An H-type pseudoknot and a second chain.
SEQUENCE = "GGCGCAGUGGGCUAGCGCCACUCAAAAGGCCC&GGGCC"
PRESS = """
const root = document.documentElement, view = document.getElementById("view");
const pressed = () => [...document.querySelectorAll("[data-show]")].map((one) => one.getAttribute("aria-pressed")[0]);
root.dataset.first = pressed().join("");
document.querySelector('[data-show="1"]').click();
document.querySelector('[data-pick="2"]').click();
document.querySelector('[data-color="grounds"]').click();
root.dataset.after = pressed().join("");
root.dataset.arcs = [...document.querySelectorAll("[data-arcs]")].map((one) => Number(!one.hidden)).join("");
const pixels = () => [...view.getContext("2d").getImageData(0, 0, view.width, view.height).data];
const before = pixels();
view.dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowLeft"}));
const turned = pixels();
root.dataset.inked = before.filter((value, k) => k % 4 === 3 && value > 0).length;
root.dataset.moved = turned.filter((value, k) => value !== before[k]).length;
root.dataset.named = [...document.querySelectorAll("canvas, svg")].every((one) => one.getAttribute("aria-label"));
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    (target,) = read_sequences(SEQUENCE)
    folded = open_folder(FoldOptions(use_network=False), [target]).fold(target, PairWishes(unpaired=(36,)))
    folder = tmp_path_factory.mktemp("fold")
    return write_fold(folded, folder)[-1]


def test_the_page_needs_nothing_from_elsewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not re.findall(r'(?:src|href)="(?!data:|model_[1-5]\.(?:cif|pdb)")', text)
    assert "http://" not in text and "https://" not in text and "@import" not in text
    names = re.findall(r'href="(model_[1-5]\.(?:cif|pdb))"', text)
    assert len(names) == 10 and all((page.parent / name).is_file() for name in names)
    data = json.loads(re.search(r'id="fold-data">(.*?)</script>', text, re.DOTALL).group(1))  # type: ignore[union-attr]
    assert [len(model["coords"]) for model in data["models"]] == [3 * 37] * 5


def test_models_lie_on_the_first_as_the_scorer_lays_them(page: Path) -> None:
    (target,) = read_sequences("GGGGCAAACUUCGGUUUGCCCC")
    models = open_folder(FoldOptions(use_network=False), [target]).fold(target).models
    moved = superpose_on_first(models)
    reference = structure_from_points(moved[0])
    for points, model in zip(moved, models):
        before = tm_score(model.coords[None], [structure_from_points(models[0].coords)], "fast")[0, 0]
        assert tm_score(points[None], [reference], "fast")[0, 0] == pytest.approx(before, abs=1e-3)
        # a rotation, no mirror image: distances and handedness stay
        np.testing.assert_allclose(
            np.linalg.det(points[1:4] - points[0]), np.linalg.det(model.coords[1:4] - model.coords[0])
        )


def test_arcs_of_a_pseudoknot_stand_out_and_an_empty_structure_draws() -> None:
    arcs = list_arcs(parse_dot_bracket("(((..[[[..)))..]]]"))
    assert [arc.kind for arc in arcs] == ["pair"] * 3 + ["knot"] * 3
    strips = [Strip(label="one", colors=["#fff"] * 10 + ["#000"] * 8, words=["a"] * 10 + ["b"] * 8)]
    text = draw_arcs("A" * 18, whole_chain(18), arcs, [], strips, title="it's <one>")
    assert text.count("<path") == 6 and text.count("<rect") == 2 and "it&#x27;s &lt;one&gt;" in text
    assert draw_arcs("A", whole_chain(1), [], [], [], title="nothing").endswith("</svg>")


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here (Debian: apt-get install chromium)")
def test_a_browser_draws_the_models_and_obeys_buttons_and_keys(page: Path) -> None:
    opened = open_page(page, PRESS)
    found = opened.data
    assert opened.said == [] and "errors" not in found
    assert found["first"] == "ttttt"
    assert found["after"] == "tfttt" and found["shown"] == "10111"
    assert found["arcs"] == "00100"
    assert int(found["inked"]) > 3000 and int(found["moved"]) > 3000
    assert found["named"] == "true"
