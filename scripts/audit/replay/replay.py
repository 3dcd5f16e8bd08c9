"""Make sampled parts of a study a second time and compare them byte for byte: training, models, scores, sequences."""

from __future__ import annotations

import sys
from typing import Any

from scripts.audit.replay import data as replay_data
from scripts.audit.replay import model as replay_model
from scripts.audit.replay import pieces
from scripts.audit.replay import segment as replay_segment
from scripts.audit.state import together
from scripts.audit.verdict import Check, plain
from scripts.common.command import Parser
from scripts.common.files import write_json
from scripts.replay import cost
from scripts.study import paths
from scripts.study.sampling import chances, models, segments
from scripts.study.study import Study, load, parse


def with_sample(study: Study, count: int | None, seed: int | None) -> Study:
    """The study with another number of segments and models or another seed than its file says."""
    content = study.file.model_dump()
    changes = {"segments": count, "models": count, "seed": seed}
    content["audit"]["replay"] |= {key: value for key, value in changes.items() if value is not None}
    return parse(content)


def names(study: Study, data: str) -> list[str]:
    """The jobs of a study's replay; `data` is the one on the sequences."""
    return [*(segment.name for segment in segments(study)), *(point.name for point in models(study)), data]


def another(study: Study, asked: Study) -> str:
    """What tells a sample that an auditor drew from the study's own, in names of files; empty if it is the study's."""
    own, drawn = study.file.audit.replay, asked.file.audit.replay
    return "" if own == drawn else f"-seed{drawn.seed}-segments{drawn.segments}-models{drawn.models}"


def replay(study: Study, data: str) -> None:
    """Do every job here, one after the other, also those whose verdict is there."""
    for segment in segments(study):
        replay_segment.replay(study, segment)
    for point in models(study):
        replay_model.replay(study, point)
    replay_data.replay(study, data)


def verdict(study: Study, data: str) -> dict[str, Any]:
    """What all jobs found, what was drawn and how likely that meets a forgery; `of` which state of the suite."""
    asked = study.file.audit.replay
    drawn = [segment.name for segment in segments(study)] + [point.name for point in models(study)]
    sample = Check(
        "replay-sample",
        f"the parts made a second time are those that the public seed {asked.seed} draws",
        "pass" if drawn else "not applicable",
        tuple(drawn) or ("audit.replay asks for no segments and no models",),
    )
    chance = Check(
        "replay-chance",
        "forgeries that only making things again shows, every manifest rebuilt, are met with the chance told",
        "pass",
        chances(study),
    )
    contents, checks = pieces.read_pieces(map(paths.replayed, names(study, data)))
    return {**plain([sample, chance, *checks]), "of": together(contents)}


def main() -> None:
    parser = Parser(
        description=f"{__doc__} Writes {paths.REPLAY}; a sample of your own is written beside it, as "
        f"{paths.REPLAY.stem}-seed<N>-segments<N>-models<N>.json, and is on the audit's page too. Exit code 1 if "
        "something is not what was made again. The workflow runs the same parts as jobs of their own."
    ).takes("study")
    parser.add_argument("--segments", type=int, help="spans and models to draw (default: audit.replay of the study)")
    parser.add_argument("--seed", type=int, help="public seed they are drawn with (default: the study's)")
    parser.add_argument("--cost", action="store_true", help="only tell what would be trained, and how long it took")
    parser.add_argument("--gather", action="store_true", help="only gather what the jobs found, whatever it says")
    parser.add_argument("--task-code", action="store_true", help=replay_model.TASK_CODE)
    arguments = parser.parse_args()
    own = load(arguments.study)
    study = with_sample(own, arguments.segments, arguments.seed)
    suffix = another(own, study)
    data = replay_data.NAME + suffix
    if arguments.cost:
        print(cost.said(study, segments(study)))
        return
    if not arguments.gather:
        if not arguments.task_code:
            replay_model.refuse_task_code(study)
        print(cost.said(study, segments(study)), file=sys.stderr, flush=True)
        replay(study, data)
    content = verdict(study, data)
    write_json(paths.AUDIT / f"{paths.REPLAY.stem}{suffix}.json", content)
    for check in content["checks"]:
        print(f"{check['status']:15}{check['id']}: {check['evidence'][0]}")
    if content["verdict"] == "fail" and not arguments.gather:
        raise SystemExit(1)
