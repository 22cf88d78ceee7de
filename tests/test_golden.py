"""The recorded fixtures agree with `dreamer`, and the check itself notices what it should."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

GOLDEN = Path(__file__).parent / "golden"
sys.path.insert(0, str(GOLDEN))

import check  # noqa: E402
import counts  # noqa: E402

FIXTURES = sorted([*GOLDEN.glob("*.npz"), GOLDEN / "param_counts.json"])


def copy(source, target, change):
    """Save the arrays of a fixture after `change`, which edits the dict of them in place."""
    with np.load(source) as file:
        arrays = dict(file)
    change(arrays)
    np.savez(target, **arrays)


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_fixture_agrees(path):
    ok, _, verdict = check.run(path)
    assert ok, verdict


def test_every_check_has_its_fixture():
    assert {path.stem for path in FIXTURES} == {*check.CHECKS, "param_counts"}


@pytest.mark.parametrize("name, total", [
    ("size1m_vector4_discrete2", 637_381),          # CartPole-v1
    ("size1m_vector24_continuous6", 640_867),
    ("size12m_image64_continuous6", 10_494_158),
])
def test_parameter_count_is_the_official_one(name, total):
    assert counts.measure(counts.build(name))["trained_total"] == total


def test_script_fails_for_a_perturbed_fixture_and_goes_on(tmp_path):
    def perturb(arrays):
        arrays["out_std"][0, 0, 0] *= 1.0001
    copy(GOLDEN / "bounded_normal.npz", tmp_path / "bounded_normal.npz", perturb)
    (tmp_path / "rssm.npz").write_text("not an archive")
    copy(GOLDEN / "symlog_symexp.npz", tmp_path / "symlog_symexp.npz", lambda arrays: None)
    copy(GOLDEN / "symlog_symexp.npz", tmp_path / "unheard_of.npz", lambda arrays: None)
    script = [sys.executable, GOLDEN / "check.py", tmp_path]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True)
    verdicts = [line[:6].strip() for line in done.stdout.splitlines()[:4]]
    assert (done.returncode, verdicts) == (1, ["NOT OK", "NOT OK", "ok", "NOT OK"]), done.stdout + done.stderr


def test_a_file_without_a_check_fails(tmp_path, capsys):
    copy(GOLDEN / "symlog_symexp.npz", tmp_path / "symlog_symexp.npz", lambda arrays: None)
    assert check.main(tmp_path) == 0
    copy(GOLDEN / "symlog_symexp.npz", tmp_path / "unheard_of.npz", lambda arrays: None)
    assert check.main(tmp_path) == 1
    assert "not covered by a check" in capsys.readouterr().out


def test_an_empty_folder_fails(tmp_path):
    assert check.main(tmp_path) == 1


def test_a_result_that_was_not_compared_is_noticed(tmp_path):
    path = tmp_path / "bounded_normal.npz"
    copy(GOLDEN / "bounded_normal.npz", path, lambda arrays: arrays.update(out_new=np.zeros(3)))
    ok, _, verdict = check.run(path)
    assert not ok and "not compared: out_new" in verdict


def test_an_undefined_number_is_noticed(tmp_path):
    def spoil(arrays):
        arrays["in_raw_mean"][0, 0, 0] = np.nan
    path = tmp_path / "bounded_normal.npz"
    copy(GOLDEN / "bounded_normal.npz", path, spoil)
    assert not check.run(path)[0]
