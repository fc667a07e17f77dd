"""`freezecheck run SCRIPT` is `python SCRIPT`: argv, `__main__`, the path, how it ends, what goes wrong around it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from torch.overrides import _get_current_function_mode_stack

from tests.watching.loops import MODEL, SPEC, WRONG, codes, process, report_of, run, write

LOOP = "for _ in range(5):\n    step()\n"
TELL = """\
import json, os, pickle, sys
class Mine: pass
spec = None if __spec__ is None else __spec__.name
same = type(pickle.loads(pickle.dumps(Mine()))) is Mine
main = sys.modules["__main__"].Mine is Mine
told = [__name__, __file__, sys.argv, sys.path[0], os.getcwd(), spec, __package__, main, same]
json.dump(told, open(os.environ["TOLD"], "w"))
"""


@pytest.fixture
def told(tmp_path, monkeypatch):
    """Run the script that tells how it was started, by Python and by us."""

    def tell(*arguments):
        monkeypatch.setenv("TOLD", str(tmp_path / "told.json"))
        done = subprocess.run([sys.executable, *arguments], cwd=tmp_path, check=True)
        assert done.returncode == 0
        plain = json.loads((tmp_path / "told.json").read_text())
        (tmp_path / "told.json").unlink()
        ran = run(tmp_path, *arguments)
        assert ran.code == 2, "it trains nothing"
        return plain, json.loads((tmp_path / "told.json").read_text())

    return tell


class TestAsPythonWould:
    def test_a_script_is_the_main_module(self, tmp_path, told):
        """Name, file, argv, path, working directory and pickling are what `python folder/train.py` gives."""
        (tmp_path / "folder").mkdir()
        write(tmp_path / "folder", TELL, spec=None)
        plain, ours = told("folder/train.py", "--steps", "7", "--", "-m", "x y")
        assert ours == plain

    def test_a_module_is_the_main_module(self, tmp_path, told):
        """And what `python -m package.train` gives."""
        (tmp_path / "package").mkdir()
        (tmp_path / "package" / "__init__.py").touch()
        write(tmp_path / "package", TELL, spec=None)
        plain, ours = told("-m", "package.train", "--format", "json")
        assert ours == plain

    def test_options_after_the_script_are_its_own(self, tmp_path):
        """`--spec` before SCRIPT is ours, after it the script's, though they look alike; `--` before it is allowed."""
        write(tmp_path, MODEL + LOOP + "", spec=None)
        (tmp_path / "mine.toml").write_text('trainable = ["body"]\n')
        ran = run(tmp_path, "--format", "json", "--", "train.py", "--spec", "mine.toml", "--format", "sarif")
        assert ran.code == 0
        assert report_of(ran)["spec"] is None

    def test_an_unknown_option_of_ours_is_an_error(self, tmp_path):
        """A misspelled option is not taken for the script."""
        write(tmp_path, MODEL + LOOP)
        ran = run(tmp_path, "--stepz", "3", "train.py")
        assert ran.code == 2
        assert "No such option" in ran.err
        assert "--stepz" in ran.err


class TestStdout:
    def test_it_carries_the_report_alone(self, tmp_path):
        """What the script and its subprocesses print, megabytes of it, goes to stderr."""
        noise = "import os, subprocess, sys\nprint('noise ' * 200_000)\nos.write(1, b'raw noise')\n"
        noise += "subprocess.run([sys.executable, '-c', 'print(\"child noise\")'])\n"
        write(tmp_path, noise + MODEL + LOOP)
        done = process(tmp_path, "--format", "json", "train.py")
        assert json.loads(done.stdout)["exit_code"] == 0
        assert done.stderr.count("noise") == 200_002

    def test_paths_are_told_from_where_it_was_started(self, tmp_path):
        """A script that changes directory changes neither where the report goes nor the paths in it."""
        (tmp_path / "elsewhere").mkdir()
        source = MODEL.replace("x).relu()", "x).detach().relu()").replace("model.body.requires_grad_(False)\n", "")
        moving = "import os\nos.chdir('elsewhere')\n" + source.replace("model.head.param", "model.param")
        write(tmp_path, moving + LOOP, spec='trainable = ["*"]\n')
        ran = run(tmp_path, "--spec", "freezecheck.toml", "--format", "json=report.json", "train.py")
        report = json.loads((tmp_path / "report.json").read_text())
        assert ran.code == 1
        assert ran.out == ""
        assert (report["target"], report["spec"]) == ("train.py", "freezecheck.toml")
        assert [f["location"]["file"] for f in report["findings"] if f["code"] == "FZ201"] == ["train.py"]


class TestItsOwnEnding:
    @pytest.mark.parametrize(
        ("ending", "status"),
        [
            ("", 0),
            ("import sys; sys.exit()", 0),
            ("import sys; sys.exit(0)", 0),
            ("import sys; sys.exit(7)", 7),
            ("import sys; sys.exit('no data')", 1),
            ("raise SystemExit(True)", 1),
            ("import os; os._exit(9)", 9),
        ],
    )
    def test_its_status_comes_through_with_what_was_seen(self, tmp_path, ending, status):
        """A script that ends on its own after a step is judged by it, and keeps its exit status."""
        write(tmp_path, f"{MODEL}step()\n{ending}\n")
        ran = run(tmp_path, "--format", "json", "train.py")
        assert ran.code == status
        assert report_of(ran)["conditions"]["steps"] == 1
        assert ("no data" in ran.err) == ("no data" in ending)

    def test_findings_decide_where_the_script_ended_well(self, tmp_path):
        """A script with a mistake that ends with 0 gives 1."""
        write(tmp_path, WRONG + "step()\n")
        ran = run(tmp_path, "--format", "json", "train.py")
        assert (ran.code, codes(ran)) == (1, ["FZ401"])

    def test_what_it_raises_is_shown_as_python_shows_it(self, tmp_path):
        """The traceback is Python's own to the letter, the status is 1, and what was seen before is judged."""
        write(tmp_path, f"{WRONG}step()\ndef load():\n    raise ValueError('bad data')\nload()\n")
        plain = subprocess.run([sys.executable, "train.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
        ran = run(tmp_path, "--format", "json", "train.py")
        assert ran.code == plain.returncode == 1
        assert codes(ran) == ["FZ401"]
        assert ran.err == plain.stderr

    def test_an_error_inside_of_torch_shows_no_frame_of_ours(self, tmp_path):
        """A shape that does not fit, a failing backward, an error in a closure: the script's own frames and torch's."""
        failing = {
            "model(torch.randn(2, 5))": "mat1 and mat2 shapes",
            "torch.randn(3, requires_grad=True).backward()": "grad can be implicitly created only for scalar outputs",
            "optimizer.step(lambda: [][1])": "IndexError",
            "model.body.weight.add_(torch.randn(7))": "must match the size",
        }
        for line, said in failing.items():
            write(tmp_path, f"{MODEL}step()\ndef fail():\n    {line}\nfail()\n")
            ran = run(tmp_path, "train.py")
            assert said in ran.err
            assert line in ran.err
            assert "freezecheck/" not in ran.err
            assert "handle_torch_function" not in ran.err
            assert ran.code == 1

    def test_an_error_of_ours_is_not_blamed_on_the_script(self, tmp_path, monkeypatch):
        """Exit code 3, and the traceback that we need."""
        from freezecheck.watching.watched import Watched

        monkeypatch.setattr(Watched, "step_ends", lambda self, index: [][index])
        monkeypatch.setattr("freezecheck.watching.main.__file__", __file__)
        write(tmp_path, MODEL + "step()\n")
        ran = run(tmp_path, "train.py")
        assert ran.code == 3
        assert "this is a bug in freezecheck" in ran.err

    def test_an_error_before_the_first_step_says_what_was_seen(self, tmp_path):
        """Its traceback, its status, and the model and optimizer that were there."""
        write(tmp_path, f"{MODEL}model(torch.randn(2, 4))\nraise RuntimeError('no GPU')\n")
        ran = run(tmp_path, "train.py")
        assert ran.code == 1
        assert "RuntimeError: no GPU" in ran.err
        told = "raised RuntimeError: no GPU, before its first optimizer step; seen by then: model (Net), SGD"
        assert told in ran.err
        assert ran.err.index("RuntimeError") < ran.err.index(told)

    def test_a_syntax_error_is_the_scripts_own(self, tmp_path):
        """As Python says it, with the line and status 1."""
        write(tmp_path, "x = = 1\n")
        ran = run(tmp_path, "train.py")
        assert ran.code == 1
        assert "SyntaxError: invalid syntax" in ran.err
        assert 'train.py", line 1' in ran.err

    def test_its_excepthook_is_asked(self, tmp_path):
        """A script that shows its errors in a way of its own still does."""
        hook = "import sys\nsys.excepthook = lambda kind, error, trace: print('my own hook:', error)\n"
        write(tmp_path, f"{hook}{MODEL}step()\nraise ValueError('oh')\n")
        assert "my own hook: oh" in process(tmp_path, "train.py").stderr


class TestSelecting:
    def test_rules_are_selected_and_ignored_by_name_and_by_code(self, tmp_path):
        """`frozen-parameter-in-optimizer` is FZ401, wherever a code stands."""
        write(tmp_path, WRONG + LOOP)
        for word in ("FZ401", "FZ4", "frozen-parameter-in-optimizer"):
            ran = run(tmp_path, "--select", word, "--format", "json", "train.py")
            assert (ran.code, codes(ran)) == (1, ["FZ401"])
            ran = run(tmp_path, "--ignore", word, "--format", "json", "train.py")
            assert (ran.code, codes(ran)) == (0, [])
        assert codes(run(tmp_path, "--select", "no-gradient", "--format", "json", "train.py")) == []
        ran = run(tmp_path, "--select", "frozen-parameter-in-optimiser", "train.py")
        assert (ran.code, "frozen-parameter-in-optimiser" in ran.err) == (2, True)


class TestBeingStopped:
    def test_a_watch_of_the_scripts_own_ends_with_it(self, tmp_path):
        """A script with a watch or a callback of its own is stopped in the middle of it; torch is then as it was."""
        own = "import freezecheck\nfreezecheck.watch(model, optimizer, steps=9).__enter__()\ntorch.compile(model)\n"
        write(tmp_path, MODEL + own + LOOP)
        ran = run(tmp_path, "--format", "json", "train.py")
        assert (ran.code, codes(ran)) == (0, [])
        assert torch.autograd.backward.__module__ == "torch.autograd"
        assert torch.nn.Module.eval.__module__ == "torch.nn.modules.module"
        assert (torch.compile.__module__, _get_current_function_mode_stack()) == ("torch", [])

    def test_cleaning_up_does_not_change_the_verdict(self, tmp_path):
        """Whatever a script does on its way out, it was we who stopped it: its exit status then means nothing."""
        loop = "try:\n    for _ in range(9):\n        step()\nexcept BaseException:\n    raise SystemExit(5)\n"
        write(tmp_path, MODEL + loop)
        ran = run(tmp_path, "--format", "json", "train.py")
        assert (ran.code, codes(ran)) == (0, [])

    def test_a_script_that_lets_nothing_stop_it_goes_on_unwatched(self, tmp_path):
        """A bare `except:` around the step is survived: the script ends by itself, and the verdict is what was seen."""
        loop = "done = 0\nfor _ in range(9):\n    try:\n        step()\n    except:\n        pass\n    done += 1\n"
        write(tmp_path, WRONG + loop + "print('all', done)\n")
        ran = run(tmp_path, "--format", "json", "train.py")
        assert (ran.code, codes(ran)) == (1, ["FZ401"])
        assert report_of(ran)["conditions"]["steps"] == 3
        assert "all 9" in ran.err
        assert ran.err.count("the script catches what should stop it") == 1

    def test_a_loop_that_catches_once_is_stopped_at_its_next_step(self, tmp_path):
        """An `except:` around one epoch does not carry the training into the next."""
        loop = (
            "for epoch in range(2):\n    try:\n        for _ in range(9):\n            step()\n"
            "    except:\n        print('caught', epoch)\n"
        )
        write(tmp_path, MODEL + loop + "print('and on')\nstep()\nprint('no further')\n")
        ran = run(tmp_path, "train.py")
        assert ran.code == 0
        assert "caught 1" in ran.err
        assert "and on" in ran.err
        assert "no further" not in ran.err

    def test_nothing_after_the_last_watched_step_runs(self, tmp_path):
        """Without --continue the script is stopped in its third step."""
        write(tmp_path, MODEL + "for n in range(9):\n    step()\n    print('after', n)\n")
        ran = run(tmp_path, "train.py")
        assert "after 1" in ran.err
        assert "after 2" not in ran.err


class TestNoScript:
    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["nothing.py"], "nothing.py does not exist"),
            (["."], ". is a directory, not a script"),
            (["-m", "no.such.module"], "there is no module named no.such.module"),
            ([], "Missing argument 'SCRIPT'"),
            (["--phase", "head", "train.py"], "has no phase `head`"),
            (["--model", "critic", "train.py"], "no model called critic was trained"),
        ],
    )
    def test_it_is_said_in_a_line(self, tmp_path, arguments, said):
        """What cannot be run ends with 2 and one sentence."""
        write(tmp_path, MODEL + LOOP)
        ran = run(tmp_path, *arguments)
        assert ran.code == 2
        assert said in ran.err
        assert "Traceback" not in ran.err

    @pytest.mark.parametrize(
        "trained", ["", "F.cross_entropy(model(torch.randn(2, 4)), torch.ones(2, dtype=int)).backward()\n"]
    )
    def test_a_script_that_never_steps_says_so(self, tmp_path, trained):
        """Exit code 2, in JSON too, also where a backward reached what should train."""
        write(tmp_path, MODEL + trained)
        ran = run(tmp_path, "--format", "json", "train.py")
        assert ran.code == 2
        assert report_of(ran)["error"]["kind"] == "probe"
        assert "without an optimizer step" in report_of(ran)["error"]["message"]

    def test_a_training_without_a_module_says_so(self, tmp_path):
        """Raw tensors have no names."""
        loop = "for _ in range(5):\n    optimizer.zero_grad()\n    (w * 2).sum().backward()\n    optimizer.step()\n"
        write(
            tmp_path,
            "import torch\nw = torch.zeros(3, requires_grad=True)\noptimizer = torch.optim.SGD([w], lr=1)\n" + loop,
        )
        ran = run(tmp_path, "train.py")
        assert ran.code == 2
        assert "SGD stepped, but no module" in ran.err

    def test_a_wrong_spec_is_told_before_the_script_runs(self, tmp_path):
        """Nobody waits for a training to be told of a typing mistake."""
        write(tmp_path, "print('it ran')\n", spec='trainabel = ["head"]\n')
        ran = run(tmp_path, "train.py")
        assert ran.code == 2
        assert "trainabel" in ran.err
        assert "it ran" not in ran.err

    def test_a_spec_for_another_model_is_told_with_the_nearest_names(self, tmp_path):
        """A selector that fits nothing is FZ001, as in verify."""
        write(tmp_path, MODEL + LOOP, spec=SPEC.replace("head", "haed"))
        ran = run(tmp_path, "--format", "json", "train.py")
        assert ran.code == 1
        assert "FZ001" in codes(ran)
