"""All workers of a run must see one directory; otherwise they are told so, and end."""

import pytest
from etils import epath

from mre_jax.errors import ConfigError
from mre_jax.training.run.directory import RunDirectory
from mre_jax.training.run.shared_directory import check_found, check_shared
from tests.training.checkpoints.test_topology import two_processes
from tests.training.train_files import Process, free_port


def test_a_worker_that_does_not_find_the_file_is_named():
    check_found(epath.Path("run"), [True, True])
    with pytest.raises(
        ConfigError, match=r"--run run: not the same .* on 1, 3\); give gs://"
    ) as it:
        check_found(epath.Path("run"), [True, False, True, False])
    assert it.value.exit_code == 78


def test_a_process_that_is_alone_leaves_nothing(tmp_path):
    check_shared(epath.Path(tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_two_processes_agree_on_a_directory_that_they_share(tmp_path):
    for code, lines in two_processes("share", tmp_path):
        assert (code, lines[-1]) == (0, {"shared": True})
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_two_processes_with_a_directory_each_both_end(tmp_path):
    for number in "01":
        (tmp_path / number).mkdir()
    for code, lines in two_processes("share_not", tmp_path):
        assert code == 78
        assert "not the same directory on all workers" in lines[-1]["error"]
    assert not list((tmp_path / "0").iterdir())


@pytest.mark.slow
def test_a_run_whose_workers_have_a_directory_each_ends_before_its_first_step(
    long_config, tmp_path
):
    port, processes = free_port(), []
    for number in range(2):
        (tmp_path / str(number)).mkdir()
        run = tmp_path / str(number) / "run"
        processes.append(Process(long_config, run, process=number, processes=2, port=port))
    for process in processes:
        assert process.wait(300) == 78, process.output()
        assert "not the same directory on all workers" in process.output()
    assert not RunDirectory(tmp_path / "0" / "run").events()  # not the beginning of a run
