"""What is read of a run folder: states, differences and figures, of damaged folders too."""

import json
import shutil

import pytest
from markup import parsed
from PIL import Image

from gendiff.cli import main
from gendiff.evaluation.reference import describe, digest_of
from gendiff.evaluation.stage import Marks, points_of
from gendiff.pipeline.findings import Found
from gendiff.pipeline.overview import read_overview
from gendiff.storage import lock, read_json, write_json, write_text

COLUMNS = "step,loss,loss/level-1,watch/recall\n"


@pytest.fixture
def run(stage, tmp_path):
    """A teacher and its student, whose config differs in two keys."""
    stage("teacher")
    words = ["optim.lr=0.5", "method.label_dropout=0.0", "trainer.max_steps=7"]
    stage("student", {"student": "teacher.ema", "teacher": "teacher.ema"}, words)
    return tmp_path / "run"


def states(folder):
    return {stage.name: stage.state for stage in read_overview(folder).stages}


def test_a_finished_pipeline(run):
    teacher, student = read_overview(run).stages
    assert (teacher.state, student.state, student.parent) == ("done", "done", "teacher")
    assert student.init == {"student": "teacher.ema", "teacher": "teacher.ema"}
    changed = {key: (old, new) for key, old, new in student.changes}
    assert changed["optim.lr"][1] == "0.5"
    assert changed["trainer.max_steps"][1] == "7"
    assert (
        {"optim.lr", "trainer.max_steps"}
        <= changed.keys()
        <= {
            "optim.lr",
            "trainer.max_steps",
            "method.label_dropout",
        }
    )
    assert student.speed == 7 * student.batch / 20.0
    assert (student.processes, student.device) == (2, "cpu")
    assert student.environment == {"host": "here", "versions.torch": "2"}


def test_figures_and_papers(run):
    folder = run / "teacher"
    config = Found(folder).run
    point, *_ = points_of(config)
    entry = {**vars(point), "model": "<b>", "nfe": 3, "wasserstein2": 0.5, "each": [{"seconds": 2}]}
    entry |= Marks(folder, config).of(point)
    other = {**entry, "weights": "0" * 64, "wasserstein2": 0.1}
    write_json(folder / "evaluation.json", [entry, other])
    floors = {" ".join(sorted(entry["metrics"])): {"wasserstein2": 0.25}}
    digest = digest_of(describe(config, run))
    write_json(run / f"reference-{digest}" / "reference.json", {"floors": floors})
    found = read_overview(run)
    (shown,) = found.entries
    assert (shown["model"], shown["nfe"], shown["wasserstein2"]) == ("teacher", 3, 0.5)
    assert found.stages[0].sampling == 2.0
    assert found.floors == {digest: {"wasserstein2": 0.25}}
    assert any("Denoising Diffusion" in paper.title for paper, _ in found.papers)


@pytest.mark.parametrize(
    ("places", "order"), [((1, 0), ["b", "a"]), ((None, None), ["a", "b"]), (("x", 1), ["a", "b"])]
)
def test_points_are_in_the_pipelines_order(stage, tmp_path, places, order):
    for name, place in zip("ab", places, strict=True):
        folder = stage(name)
        write_json(folder / "stage.json", {**read_json(folder / "stage.json"), "place": place})
        config = Found(folder).run
        point, *_ = points_of(config)
        entry = {**vars(point), "model": name, "nfe": 1, "each": []}
        write_json(folder / "evaluation.json", [entry | Marks(folder, config).of(point)])
    assert [point["model"] for point in read_overview(tmp_path / "run").entries] == order


def test_curves_are_numbers(run):
    rows = "1,0.5,,\n2,nan,3,x\nodd,1,1,1\n3,1e400,4,0.25\n4,9"
    write_text(run / "teacher/metrics.csv", COLUMNS + rows)
    curves = {stage.name: stage.curves for stage in read_overview(run).stages}
    assert curves["teacher"] == {
        "loss": [(1, 0.5)],
        "loss/level-1": [(2, 3), (3, 4)],
        "watch/recall": [(3, 0.25)],
    }


def test_a_parent_in_another_run_folder(run, tmp_path):
    """Is there, has other weights now, cannot be read, is gone."""
    other = shutil.copytree(run / "teacher", tmp_path / "other/teacher")
    path = run / "student/stage.json"
    record = read_json(path)
    for entry in record["init"].values():
        entry["from"] = f"{other}.ema"
    write_json(path, record)

    def why():
        return [line for stage in read_overview(run).stages for line in stage.why]

    assert why() == []
    assert states(run)["student"] == "done"
    retrained(tmp_path / "other")
    assert states(run) == {"teacher": "done", "student": "stale"}
    assert all("was used" in line for line in why())
    assert len(why()) == 2
    (other / "stage.json").write_text("{")
    assert "stage.json: damaged" in why()[0]
    shutil.rmtree(other)
    assert all("is missing" in line for line in why())


@pytest.mark.parametrize("of", ["teacher", "student"])
def test_lineage_hashes_the_files(run, of, capsys):
    path = run / of / "weights/ema.safetensors"
    assert main(["lineage", str(run)]) == 0
    capsys.readouterr()
    text = path.read_bytes()
    path.write_bytes(bytes([text[0] ^ 1]) + text[1:])
    assert main(["lineage", str(run)]) == 1
    told = "damaged, its digest is not the one recorded in done.json."
    assert capsys.readouterr().out.splitlines()[-1] == f"{path}: {told}"


def half_done(run):
    shutil.rmtree(run / "student/weights")
    (run / "student/done.json").unlink()


def retrained(run):
    path = run / "teacher/weights/ema.safetensors"
    done = read_json(run / "teacher/done.json")
    done["digests"]["weights/ema.safetensors"] = write_text(path, "other weights")
    write_json(run / "teacher/done.json", done)


def of_another_run(run):
    write_json(run / "student/done.json", read_json(run / "teacher/done.json"))


@pytest.mark.parametrize(
    ("harm", "state", "said"),
    [
        (half_done, "half done", "at step 0 of 7"),
        (retrained, "stale", "was used"),
        (of_another_run, "damaged", "another run"),
        (lambda run: (run / "student/stage.json").write_text("{"), "damaged", "stage.json"),
        (lambda run: (run / "student/stage.json").write_text("[1]"), "damaged", "stage.json"),
        (lambda run: (run / "student/config.yaml").write_text("a: ["), "damaged", "config.yaml"),
        (lambda run: (run / "student/config.yaml").write_bytes(b"\xff"), "damaged", "config.yaml"),
        (lambda run: (run / "student/done.json").write_text("[]"), "damaged", "done.json"),
        (lambda run: (run / "student/stage.json").unlink(), "damaged", "stage.json"),
        (lambda run: shutil.rmtree(run / "student/weights"), "damaged", "ema.safetensors: missing"),
        (
            lambda run: (run / "student/weights/ema.safetensors").write_text("x"),
            "damaged",
            "digest",
        ),
        (lambda run: (run / "student/metrics.csv").write_text("a\0b"), "done", ""),
        (lambda run: (run / "student/evaluation.json").write_text("[1]"), "done", "evaluation"),
        (lambda run: (run / "student/evaluation.json").write_text('[{"role": []}]'), "done", ""),
    ],
)
def test_harm_is_named_on_the_page(run, harm, state, said, capsys):
    harm(run)
    assert states(run) == {"teacher": "done", "student": state}
    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().out == f"{run / 'report.html'}\n"
    page = parsed((run / "report.html").read_text())
    wrong = [item for item in page.texts["li"] if item.startswith("student: ")]
    assert bool(wrong) == bool(said)
    assert all(said in item and state in item for item in wrong)
    assert str(run) not in " ".join(wrong)


def test_a_config_of_a_part_that_is_not_here(run):
    path, done = run / "student/config.yaml", read_json(run / "student/done.json")
    text = path.read_text().replace("name: diffusion", "name: of_a_plugin")
    write_json(
        run / "student/done.json",
        {**done, "digests": {**done["digests"], "config.yaml": write_text(path, text)}},
    )
    _, student = read_overview(run).stages
    assert student.state == "done"
    assert "of_a_plugin" in student.why[0]
    assert ("method.name", "diffusion", "of_a_plugin") in student.changes


def test_running_and_aside(run):
    shutil.copytree(run / "student", run / "student.old-1")
    (run / "notes").mkdir()
    with lock(run / ".locks/student"):
        assert states(run) == {"teacher": "done", "student": "running"}


def test_a_trial_s_stage_is_a_link(run, tmp_path):
    (tmp_path / "trial").mkdir()
    (tmp_path / "trial/student").symlink_to(run / "student")
    with lock(run / ".locks/student"):
        assert states(tmp_path / "trial") == {"student": "running"}


def test_no_file_from_elsewhere(run, tmp_path):
    samples = run / "teacher/samples"
    samples.mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "secret.png")
    Image.new("L", (4, 4)).save(samples / "ddim-1.png")
    (samples / "ddim-2.png").symlink_to(tmp_path / "secret.png")
    (tmp_path / "secret.csv").write_text("step,loss\n1,2\n")
    (run / "teacher/metrics.csv").symlink_to(tmp_path / "secret.csv")
    teacher, _ = read_overview(run).stages
    assert [path.name for path in teacher.pictures] == ["ddim-1.png"]
    assert teacher.curves == {}


@pytest.mark.parametrize(
    ("path", "said"),
    [("run/teacher", "is a stage of"), ("none", "no such run folder"), ("empty", "no stage")],
)
def test_folders_that_are_no_run(run, path, said, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert main(["report", str(tmp_path / path)]) == 2
    assert said in capsys.readouterr().err


def test_a_run_writes_its_report(tmp_path, capsys):
    words = ["trainer.max_steps=4", "logging.every_steps=2", "evaluation.steps=[]"]
    words += ["trainer.checkpoint_steps=1", "data.batch_size=64"]
    assert main(["run", "mixture_diffusion", *words, "--dir", str(tmp_path / "a")]) == 0
    assert str(tmp_path / "a/report.html") in capsys.readouterr().out
    stage = tmp_path / "a/mixture_diffusion"
    done = json.loads((stage / "done.json").read_text())
    assert 0 < done["seconds"] < 600
    assert (done["processes"], done["device"]) == (1, "cpu")
    head, *rows = [line.split(",") for line in (stage / "metrics.csv").read_text().split()]
    assert head[:2] == ["step", "loss"]
    assert {f"loss/level-{k}" for k in range(1, 6)} == {*head[2:]}
    levels = {int(row[0]): [x for x in row[2:] if x] for row in rows}
    assert levels.keys() >= {2, 4}
    page = parsed((tmp_path / "a/report.html").read_text())
    charts = [svg["aria-label"] for svg in page.all("svg")][1:]
    assert charts == ["mixture_diffusion: Loss.", "mixture_diffusion: By noise level."]
