"""The record of a run outside its folder's metrics: wandb and TensorBoard."""

from __future__ import annotations

import io
import json
import math
import shutil
import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile

from audio.errors import InputError
from audio.waveform import Waveform
from restyler.checkpoints import RunFolder, step_of
from restyler.command import one_line
from restyler.sections import TrackingSection

if TYPE_CHECKING:  # both are slow to import, and most runs need neither
    import wandb
    from PIL.Image import Image
    from torch.utils.tensorboard import SummaryWriter


def check_tracking(section: TrackingSection) -> None:
    """Raises InputError where tracking is to be online and nobody is logged in, and where TensorBoard is missing."""
    if section.tensorboard and find_spec("tensorboard") is None:
        raise InputError(
            "tracking.tensorboard needs the package tensorboard: pip install 'vocal-restyler[tensorboard]'"
        )
    if section.wandb != "online":
        return
    import wandb

    try:
        wandb.login()
    except wandb.Error as error:
        raise InputError(f"tracking.wandb: online needs a login, and wandb says: {one_line(error)}") from None


class Tracking:
    """The record of a run at wandb and in TensorBoard, as far as they are asked for. Made by the main process alone.

    A run that is resumed goes on in the same record. Both are told the same under the same names.
    """

    def __init__(self, at_wandb: AtWandb | None, in_tensorboard: InTensorBoard | None) -> None:
        self._places: list[AtWandb | InTensorBoard] = [place for place in (at_wandb, in_tensorboard) if place]

    @classmethod
    def begin(
        cls, section: TrackingSection, run: RunFolder, *, config: dict[str, Any], environment: dict[str, Any]
    ) -> Tracking:
        """config and environment: what the record says of the run. Raises InputError where wandb refuses it."""
        facts = config | {"environment": environment}
        at_wandb = None if section.wandb == "off" else AtWandb(section, run, facts)
        return cls(at_wandb, InTensorBoard(run, facts) if section.tensorboard else None)

    def scalars(self, values: Mapping[str, float | None], step: int) -> None:
        """What is None or not finite is left out: a gap in a curve says it best."""
        finite = {name: float(value) for name, value in values.items() if value is not None and math.isfinite(value)}
        if finite:
            self._tell(lambda place: place.scalars(finite, step))

    def sounds(self, sounds: Mapping[str, Waveform], step: int) -> None:
        """To be played; 16 bit, so whatever is beyond full scale is cut off."""
        if sounds:
            self._tell(lambda place: place.sounds(sounds, step))

    def pictures(self, pictures: Mapping[str, Image], step: int) -> None:
        if pictures:
            self._tell(lambda place: place.pictures(pictures, step))

    def model(self, folder: Path, step: int) -> None:
        """The model in `folder`, as it is now, as an artifact at wandb. TensorBoard has nothing like it."""
        self._tell(lambda place: place.model(folder, step))

    def close(self, *, failed: bool = False) -> None:
        """Returns when all of it is written. failed: wandb shows such runs as failed."""
        self._tell(lambda place: place.close(failed=failed))

    def _tell(self, call: Callable[[AtWandb | InTensorBoard], None]) -> None:
        """A record that fails is no reason to lose hours of training: it is told no more, and a line says so. The run's
        own metrics.jsonl has everything."""
        for place in list(self._places):
            try:
                call(place)
            except Exception as error:  # their services, networks and disks fail in ways without number
                self._places.remove(place)
                print(f"{place.name} failed and is told no more of this run: {one_line(error)}", file=sys.stderr)

    def __enter__(self) -> Tracking:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(failed=kind is not None)


class AtWandb:
    """A run of wandb, online or in files for a later `wandb sync`."""

    name = "wandb"

    def __init__(self, section: TrackingSection, run: RunFolder, facts: dict[str, Any]) -> None:
        import wandb

        assert section.wandb != "off"
        try:
            self._run: wandb.Run = wandb.init(
                project=section.project,
                config=facts,
                mode=section.wandb,
                dir=str(run.path),
                name=run.path.name,
                id=run.identity(),
                resume="allow",
                allow_val_change=True,  # a resumed run may be on another machine
                # What a run ran on is in its config; wandb would add the names of host and user, paths and arguments.
                settings=wandb.Settings(x_disable_meta=True, disable_git=True, console="off", host="-"),
            )
        except wandb.Error as error:
            raise InputError(f"tracking.wandb: {section.wandb} can't be begun: {one_line(error)}") from None
        # wandb drops a row whose own step is below the last one's, and a run that is resumed from an older checkpoint
        # goes back in steps: so its own step counts rows, and ours is a value that all others are drawn over.
        self._run.define_metric("step", hidden=True)
        self._run.define_metric("*", step_metric="step")

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        self._run.log({**values, "step": step})

    def sounds(self, sounds: Mapping[str, Waveform], step: int) -> None:
        import wandb

        players = {
            name: wandb.Audio(sound.samples.T.cpu().numpy(), sample_rate=sound.sample_rate)
            for name, sound in sounds.items()
        }
        self._run.log({**players, "step": step})

    def pictures(self, pictures: Mapping[str, Image], step: int) -> None:
        import wandb

        self._run.log({**{name: wandb.Image(picture) for name, picture in pictures.items()}, "step": step})

    def model(self, folder: Path, step: int) -> None:
        import wandb

        artifact = wandb.Artifact(f"{folder.name}-{self._run.id}", type="model", metadata={"step": step})
        if self._run.offline:
            # wandb would keep the copy in the user's home folder until it is synced: it belongs to the run's own files.
            kept = Path(self._run.dir).parent / "artifacts" / f"{folder.name}_{step:06d}"
            shutil.copytree(folder, kept, dirs_exist_ok=True)
            artifact.add_dir(str(kept), policy="immutable", skip_cache=True)
        else:
            artifact.add_dir(str(folder), skip_cache=True)  # copied, and removed once it is there
        self._run.log_artifact(artifact, aliases=["latest", f"step-{step}"])

    def close(self, *, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))


class InTensorBoard:
    """Event files in a folder; the first is made with the first thing that is written."""

    name = "TensorBoard"

    def __init__(self, run: RunFolder, facts: dict[str, Any]) -> None:
        self._folder, self._facts = run.path / "tensorboard", facts
        newest = run.newest()
        self._goes_on_at = 0 if newest is None else step_of(newest) + 1
        self._opened: SummaryWriter | None = None

    def _writer(self, step: int) -> SummaryWriter:
        """Makes TensorBoard forget what older files hold of the steps that are trained again.

        That is all after the newest checkpoint; or after an earlier one, where the newest proves damaged, and then the
        first step that is written tells.
        """
        if self._opened is None:
            from torch.utils.tensorboard import SummaryWriter

            self._opened = SummaryWriter(str(self._folder), purge_step=min(step, self._goes_on_at))
            text = json.dumps(self._facts, indent=2, ensure_ascii=False)
            self._opened.add_text("run", f"```json\n{text}\n```", step)  # Markdown
        return self._opened

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        writer = self._writer(step)
        for name, value in values.items():
            writer.add_scalar(name, value, step)
        writer.flush()  # else what a killed run wrote in its last two minutes is lost, and its checkpoint goes on after

    def sounds(self, sounds: Mapping[str, Waveform], step: int) -> None:
        """torch's own writer takes one channel only."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        for name, sound in sounds.items():
            wav = io.BytesIO()
            soundfile.write(wav, sound.samples.T.cpu().numpy(), sound.sample_rate, format="WAV", subtype="PCM_16")
            player = Summary.Audio(
                sample_rate=sound.sample_rate,
                num_channels=sound.channels,
                length_frames=sound.samples.shape[1],
                encoded_audio_string=wav.getvalue(),
                content_type="audio/wav",
            )
            summary = Summary(value=[Summary.Value(tag=name, audio=player)])
            self._writer(step)._get_file_writer().add_summary(summary, step)
        self._writer(step).flush()

    def pictures(self, pictures: Mapping[str, Image], step: int) -> None:
        writer = self._writer(step)
        for name, picture in pictures.items():
            writer.add_image(name, np.asarray(picture.convert("RGB")), step, dataformats="HWC")
        writer.flush()

    def model(self, folder: Path, step: int) -> None:
        """Nothing: TensorBoard keeps no models."""

    def close(self, *, failed: bool) -> None:
        if self._opened is not None:
            self._opened.close()
