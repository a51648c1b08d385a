"""A plan as a configuration of webMUSHRA (https://github.com/audiolabs/webMUSHRA), to be run there and analysed here.

mushra → mushra, or bs1116 where one system alone stands beside the hidden reference; rating → likert_multi_stimulus in
steps of ten; acr → likert_single_stimulus; abx → paired_comparison, where X is always the open reference: that of the
trial, or else its first condition, whose name the page can't hold. A page has its trial's id, and every stimulus the
name of its condition: so results find their way back.
"""

from __future__ import annotations

import html
import re
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from audio.errors import InputError
from audio.io import make_folder, write_text_atomic
from restyler.command import shown
from restyler.listen.plan import STIMULI, ListeningTest, Stimulus, Trial

Page = dict[str, Any]

BUFFER_SAMPLES = 2048  # of those that webMUSHRA allows, its own example's
RATING_STEPS = range(0, 101, 10)
ACR_LABELS = {5: "Excellent", 4: "Good", 3: "Fair", 2: "Poor", 1: "Bad"}  # ITU-T P.800
QUESTION_OF_LISTENER = "listener"


def file_name(test: str) -> str:
    """A test's name as the name of a file."""
    return re.sub(r"[^a-z0-9]+", "_", test.lower()).strip("_") or "test"


def refuse_unwritable(plan: ListeningTest, out: Path) -> None:
    """Raises InputError for trials that no page of webMUSHRA can show, and for what is there already."""
    for trial in plan.trials:
        if trial.kind in ("ab", "ccr"):
            raise InputError(
                f"webMUSHRA has no page for {trial.kind} trials (written are mushra, rating, acr and abx):"
                " leave them out, or serve the test here"
            )
    for place in _places(plan, out):
        if place.exists():
            raise InputError(f"{shown(place)}: already exists; use another folder, or another name of the test")


def write_webmushra(plan: ListeningTest, test: Path, out: Path) -> Path:
    """Writes OUT/configs/NAME.yaml and OUT/configs/resources/NAME/*.wav; `out` may be webMUSHRA's own folder.

    test: the folder of the plan, where the sounds are. Returns the path of the configuration, which comes last. Raises
    InputError as `refuse_unwritable` does, and where a file can't be written.
    """
    refuse_unwritable(plan, out)
    config, resources = _places(plan, out)
    make_folder(resources.parent)
    try:
        folder = Path(tempfile.mkdtemp(prefix=".", dir=resources.parent))
        try:
            for name in sorted({stimulus.file for trial in plan.trials for stimulus in _all(trial)}):
                shutil.copyfile(test / STIMULI / name, folder / name)
            folder.chmod(0o755)
            folder.replace(resources)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise InputError(f"{shown(resources)}: cannot be written: {error.strerror}") from error
    tree = webmushra_config(plan, f"configs/resources/{resources.name}")
    write_text_atomic(config, yaml.safe_dump(tree, allow_unicode=True, sort_keys=False, width=120))
    return config


def webmushra_config(plan: ListeningTest, resources: str) -> dict[str, Any]:
    """The configuration as a tree. resources: the folder of the sounds, relative to webMUSHRA's."""
    pages: list[Any] = [
        {"type": "consent", "id": "consent", "name": "Consent", "content": as_html(plan.consent), "mustConsent": True},
        {"type": "generic", "id": "instructions", "name": "Instructions", "content": as_html(plan.instructions)},
    ]
    if plan.headphone_check:
        any_sound = next(iter(_all(plan.trials[0]))).file
        pages.append(
            {
                "type": "volume",
                "id": "volume",
                "name": "Volume",
                "content": "Set a comfortable level and leave it there.",
            }
            | {"stimulus": f"{resources}/{any_sound}", "defaultVolume": 0.5}
        )
    pages += [_page(trial, resources) for trial in plan.trials if trial.training]
    blocks: dict[tuple[str, str], list[Any]] = {}
    for trial in plan.trials:
        if not trial.training:
            blocks.setdefault((trial.kind, trial.question), ["random"]).append(_page(trial, resources))
    pages.append(["random", *blocks.values()])
    pages.append(
        {
            "type": "finish",
            "name": "Finish",
            "content": as_html(plan.finish),
            "showResults": False,
            "writeResults": True,
        }
        | {"questionnaire": [{"type": "text", "label": "Your number as a listener", "name": QUESTION_OF_LISTENER}]}
    )
    return {
        "testname": plan.name,
        "testId": plan.name,
        "bufferSize": BUFFER_SAMPLES,
        "stopOnErrors": True,
        "showButtonPreviousPage": True,
        "remoteService": "service/write.php",
        "pages": pages,
    }


def as_html(text: str) -> str:
    return html.escape(text, quote=False).replace("\n", "<br>")


def _places(plan: ListeningTest, out: Path) -> tuple[Path, Path]:
    name = file_name(plan.name)
    return out / "configs" / f"{name}.yaml", out / "configs" / "resources" / name


def _all(trial: Trial) -> Iterable[Stimulus]:
    return (*([trial.reference] if trial.reference else []), *trial.stimuli)


def _page(trial: Trial, resources: str) -> Page:
    def path(stimulus: Stimulus) -> str:
        return f"{resources}/{stimulus.file}"

    head: Page = {"id": trial.id, "name": trial.item, "content": as_html(trial.question)}
    stimuli = {stimulus.condition: path(stimulus) for stimulus in trial.stimuli}
    match trial.kind:
        case "mushra":
            # webMUSHRA adds the hidden reference by itself.
            assert trial.reference is not None
            judged = {name: place for name, place in stimuli.items() if name != "reference"}
            sounds: Page = {"showWaveform": True, "enableLooping": True, "reference": path(trial.reference)}
            if len(judged) == 1 and all(stimulus.role in ("reference", "system") for stimulus in trial.stimuli):
                return {"type": "bs1116", **head, **sounds, "stimuli": judged}
            sounds |= {"strict": True, "createAnchor35": False, "createAnchor70": False, "randomize": True}
            return {"type": "mushra", **head, **sounds, "showConditionNames": False, "stimuli": judged}
        case "abx":
            first, second = sorted(trial.stimuli, key=lambda stimulus: stimulus.role != "reference")
            pair: Page = {"showWaveform": True, "enableLooping": True, "reference": path(first)}
            pair["stimuli"] = {second.condition: path(second)}
            return {"type": "paired_comparison", **head, **pair}
        case "rating":
            steps = [{"value": value, "label": str(value)} for value in RATING_STEPS]
            rated: Page = {"mustRate": True, "mustPlayback": "processUpdate", "stimuli": stimuli, "response": steps}
            return {"type": "likert_multi_stimulus", **head, **rated}
        case _:
            grades = [{"value": value, "label": label} for value, label in ACR_LABELS.items()]
            graded: Page = {"showWaveform": False, "mustRate": True, "mustPlayback": "processUpdate"}
            return {"type": "likert_single_stimulus", **head, **graded, "stimuli": stimuli, "response": grades}
