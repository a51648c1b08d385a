"""The live student in Neutone SDK's wrapper. The SDK belongs to an extra: import this module where it is needed."""

import torch
from neutone_sdk import ContinuousNeutoneParameter, NeutoneParameter, WaveformToWaveformBase

from restyler.student.spectra import LATENCY_SAMPLES, SAMPLE_RATE_HZ
from restyler.student.streaming import StreamingStudent

KNOBS = ("strength", "brightness", "space", "style")


class NeutoneStudent(WaveformToWaveformBase):
    """styles: in the order of the style knob. teacher: whose mixes it learned from. version: of the project."""

    # No attribute is declared here: TorchScript would see these alone, and not those that the SDK's class declares.
    def __init__(self, student: StreamingStudent, *, styles: list[str], teacher: str, version: str) -> None:
        self.told_styles, self.told_teacher, self.told_version = styles, teacher, version  # the SDK asks at once
        super().__init__(student)
        self.student = student
        self.delay_samples = LATENCY_SAMPLES

    def get_model_name(self) -> str:
        return "vocal-restyler.live"

    def get_model_authors(self) -> list[str]:
        return ["vocal-restyler"]

    def get_model_short_description(self) -> str:
        return "Mixes a raw vocal live: equaliser, dynamics, width and a room, as a generative mixing model would."

    def get_model_long_description(self) -> str:
        return (
            "A small causal network that learned from the mixes of vocal-restyler's sampler. Strength fades from the "
            "take to the mix; brightness and space turn what their names say, in the middle as is usual for the style; "
            f"style goes through {', '.join(self.told_styles)}. One mix for each setting, and no echoes."
        )

    def get_technical_description(self) -> str:
        return (
            "Band gains and a room of decaying noise in asymmetric short spectra (2048 heard, 960 samples late), set "
            f"by a recurrent layer under FiLM. Distilled from {self.told_teacher}: takes of CC0 and CC BY voices and "
            "of a singing synthesiser. The take's phase is kept."
        )

    def get_tags(self) -> list[str]:
        return ["vocals", "mixing", "eq", "dynamics", "reverb"]

    def get_model_version(self) -> str:
        return self.told_version

    def is_experimental(self) -> bool:
        return True

    def get_neutone_parameters(self) -> list[NeutoneParameter]:
        styles = self.told_styles
        told = {
            "strength": ("0 is the take itself, 1 the whole mix", 1.0),
            "brightness": ("4 to 16 kHz against the middle; 0.5 is usual for the style", 0.5),
            "space": ("how high the level stays after a sound, by little; 0.5 is usual for the style", 0.5),
            "style": (f"from {styles[0]} (0) to {styles[-1]} (1)" if styles else "none were learned", 0.5),
        }
        return [ContinuousNeutoneParameter(name, what, default) for name, (what, default) in told.items()]

    @torch.jit.export
    def is_input_mono(self) -> bool:
        return True

    @torch.jit.export
    def is_output_mono(self) -> bool:
        return False

    @torch.jit.export
    def get_native_sample_rates(self) -> list[int]:
        return [48000]

    @torch.jit.export
    def get_native_buffer_sizes(self) -> list[int]:
        return []  # any

    @torch.jit.export
    def calc_model_delay_samples(self) -> int:
        return self.delay_samples

    @torch.jit.export
    def reset_model(self) -> bool:
        self.student.reset()
        return True

    def do_forward_pass(self, x: torch.Tensor, params: dict[str, torch.Tensor]) -> torch.Tensor:
        knobs = torch.stack([params["brightness"], params["space"], params["style"]]).view(1, 3)
        return self.student(x, knobs, params["strength"].view(1))


assert SAMPLE_RATE_HZ == 48000  # what get_native_sample_rates says: TorchScript reads no constant of a module
