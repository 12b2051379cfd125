"""Options of the command line: their spelling in messages, earlier names, and the groups of `vaelab train --help`."""

import re

import pytest

from vaelab.cli import app, main
from vaelab.cli.train_options import FIELDS, as_config
from vaelab.config import Config, ModelConfig, TrainConfig
from vaelab.spelling import RENAMED, with_current_names, with_options


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("`count`: got 0", "--count: got 0"),
        ("`latent_dim` and `model='vae'`", "--latent-dim and --model vae"),
        ("pass `resume=True`", "pass --resume"),
        ('`compile="no"` or `network=ladder`', "--compile no or --network ladder"),
        (
            "`levels=16,4@8,2@4` or `levels='16,1'` or `levels=[16, 1]`",
            "--levels 16,4@8,2@4 or --levels 16,1 or --levels 16,1",
        ),
        ("`size='8x8'`, `size=(8, 12)`, `size=32`", "--size 8x8, --size 8x12, --size 32"),
        ("`weight_decay=1e-2`", "--weight-decay 1e-2"),
        ("`labels=['red cross', 3]`; `under=[3, 8]`", "--label 'red cross' --label 3; --label 3 --label 8"),
        ("`source` of `run`", "SOURCE of RUN"),
        ("as `vaelab train` writes; `load()`, `report.json`", "as `vaelab train` writes; `load()`, `report.json`"),
    ],
)
def test_messages_name_options(text: str, expected: str) -> None:
    assert with_options(text) == expected


def test_renamed_options_are_replaced_with_one_notice_each() -> None:
    words = [
        "train",
        "digits",
        "--rungs",
        "16,1",
        "--finish=0.2",
        "--finish-samples",
        "4",
        "--rungs=8,1",
        "--mixing",
        "conv",
    ]
    current, notices = with_current_names(words)
    expected = ["train", "digits", "--levels", "16,1", "--iwae-fraction=0.2", "--iwae-samples", "4", "--levels=8,1"]
    assert current == [*expected, "--spatial-mixing", "conv"]
    assert len(notices) == len(RENAMED)
    assert notices[0] == "--rungs is now --levels; the old name will be removed in the next release"
    assert with_current_names(current) == (current, [])


def test_a_renamed_option_works_and_is_noticed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["train", "digits", "--finish-samples=0"])
    assert end.value.code == 2
    notice, error = capsys.readouterr().err.splitlines()
    assert re.match("vaelab: --finish-samples is now --iwae-samples;", notice)
    assert re.match("vaelab: --iwae-samples: got 0;", error)


def test_every_field_is_an_option_of_one_group(capsys: pytest.CaptureFixture[str]) -> None:
    names = [name for group in FIELDS.values() for name in group]
    assert sorted(names) == sorted({**ModelConfig.__annotations__, **TrainConfig.__annotations__})
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    text = capsys.readouterr().out
    groups = ["Data", "Model", "Hierarchy", "Objective", "Training", "Hardware", "Run"]
    assert re.findall(r"─ (\w+) ─", text)[-len(groups) :] == groups
    assert "None" not in text
    assert "`" not in text
    for argument in app["train"].assemble_argument_collection():
        assert argument.name in text or argument.name == "*"


def test_only_options_that_are_given_reach_the_configuration() -> None:
    assert as_config(None) == Config()
    _, bound, _ = app.parse_args(["train", "digits", "--levels", "8,1", "--beta", "1"])
    options = bound.arguments["settings"]
    assert {name: value for name, value in vars(options).items() if value is not None} == {"levels": "8,1", "beta": 1.0}
    assert as_config(options) == Config(ModelConfig(levels="8,1"), TrainConfig(beta=1.0))
