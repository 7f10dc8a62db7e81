"""``eqprop reproduce --train`` killed while it creates the folders of its trainings: the same command completes them."""

import pytest

from command import call
from faults import FullDisk, Kill, KilledError
from small_paper import FOLDERS, TRAIN, disable_figures, use_paper
from small_sets import secluded
from small_trainings import outcome

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        use_paper(patch)
        disable_figures(patch)
        folder = secluded(tmp_path_factory.mktemp("whole"), patch)
        call(TRAIN).done()
    return {name: outcome(folder / "out" / name) for name in FOLDERS}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    use_paper(monkeypatch)
    disable_figures(monkeypatch)
    return secluded(tmp_path, monkeypatch)


@pytest.mark.parametrize("step", [1, 3, 5, 8, 11, 14, 17, 20])
def test_killed_while_it_creates_its_trainings(step, here, whole):
    with pytest.raises(KilledError), Kill(here / "out" / "trainings", step).counted():
        call(TRAIN)
    assert not all((here / "out" / name / "config.json").exists() for name in FOLDERS)
    call(TRAIN).done()
    assert {name: outcome(here / "out" / name) for name in FOLDERS} == whole


def test_a_full_disk_names_the_command_to_give_again(here, whole):
    """Resuming one training would leave out those after it."""
    with FullDisk(here / "out" / "trainings", 25, lasts=True).counted():
        answer = call(TRAIN)
    assert answer.code == 1
    assert "No space left on device" in answer.error()
    assert "--resume" not in answer.err
    call(TRAIN).done()
    assert {name: outcome(here / "out" / name) for name in FOLDERS} == whole
