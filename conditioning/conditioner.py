"""Turns what the user says about the mix (a style's name, a reference recording, controls) into `Conditions`."""

from __future__ import annotations

import difflib

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn

from audio.errors import InputError
from conditioning.conditions import Conditions
from conditioning.reference import ReferenceEncoder


class StyleConditioner(ModelMixin, ConfigMixin):
    """Everything that is told is embedded and summed; what is not told adds exactly zero.

    latent_dim: channels of the latents. embed_dim: width of the pooled vector.
    styles: names of the styles with a learned embedding; may be empty.
    controls: names of the numeric controls, in the order of their columns; may be empty. A control is expected in
        units of its own spread (about −1 … 1).
    reference_width: channels inside the reference encoder.
    """

    @register_to_config
    def __init__(
        self, latent_dim: int, embed_dim: int, styles: list[str], controls: list[str], reference_width: int = 128
    ) -> None:
        super().__init__()
        for kind, names in (("styles", styles), ("controls", controls)):
            if len(set(names)) != len(names):
                raise ValueError(f"{kind} have different names, not {list(names)}")
        if styles:
            self.style_embedding = nn.Embedding(len(styles), embed_dim)
        if controls:
            # A value and a flag for each control, so that «not told» is told from zero.
            self.control_embedding = nn.Sequential(
                nn.Linear(2 * len(controls), embed_dim), nn.SiLU(), nn.Linear(embed_dim, embed_dim)
            )
        self.reference_encoder = ReferenceEncoder(latent_dim, reference_width, embed_dim)

    def style_index(self, name: str) -> int:
        """Index of a style. Raises InputError, with the allowed names, for an unknown one."""
        styles = list(self.config.styles)
        if name in styles:
            return styles.index(name)
        close = difflib.get_close_matches(name, styles, n=1)
        hint = f", did you mean {close[0]!r}?" if close else ""
        raise InputError(f"unknown style {name!r}{hint} (allowed: {', '.join(styles) or 'none'})")

    def forward(
        self,
        raw: torch.Tensor,
        *,
        style: torch.Tensor | None = None,
        reference: torch.Tensor | None = None,
        reference_frames: torch.Tensor | None = None,
        controls: torch.Tensor | None = None,
    ) -> Conditions:
        """Conditions of a batch.

        raw: standardised latents of the raw take, [batch latent frames].
        style: indices [batch], −1 for «not told».
        reference: standardised latents of a reference recording, [batch latent reference_frames]; with it goes
            `reference_frames` [batch], how many frames of each item are real: 0 for «no reference», and what lies
            beyond has no influence.
        controls: [batch controls], NaN for «not told».

        Raises ValueError for shapes or indices that don't fit.
        """
        batch = raw.shape[0]
        if raw.ndim != 3 or raw.shape[1] != self.config.latent_dim:
            raise ValueError(f"raw is [batch {self.config.latent_dim} frames], not {list(raw.shape)}")
        pooled = raw.new_zeros(batch, self.config.embed_dim)
        if style is not None:
            pooled = pooled + self._style(style, batch)
        if (reference is None) != (reference_frames is None):
            raise ValueError("a reference comes with reference_frames, and reference_frames with a reference")
        if reference is not None and reference_frames is not None:
            if reference.shape[:2] != raw.shape[:2]:
                raise ValueError(
                    f"the reference is [{batch} {self.config.latent_dim} frames], not {list(reference.shape)}"
                )
            pooled = pooled + self.reference_encoder(reference, reference_frames)
        if controls is not None:
            pooled = pooled + self._controls(controls, batch)
        return Conditions(aligned=raw, pooled=pooled)

    def _style(self, style: torch.Tensor, batch: int) -> torch.Tensor:
        count = len(self.config.styles)
        # In a graph to be exported no value can be looked at: there, whoever runs it checks.
        if style.shape != (batch,) or (
            not torch.compiler.is_exporting() and bool(((style < -1) | (style >= count)).any())
        ):
            raise ValueError(f"style is [{batch}] indices from −1 (not told) to {count - 1}, not {style.tolist()}")
        if not count:
            return torch.zeros(batch, self.config.embed_dim, device=style.device)
        told = style >= 0
        return torch.where(told[:, None], self.style_embedding(style.clamp(min=0)), 0.0)

    def _controls(self, controls: torch.Tensor, batch: int) -> torch.Tensor:
        count = len(self.config.controls)
        if not count or controls.shape != (batch, count):
            raise ValueError(f"controls are [{batch} {count}] values, not {list(controls.shape)}")
        told = ~controls.isnan()
        # NaN is replaced before the network, not after it: behind torch.where its gradient would still be NaN.
        embedded = self.control_embedding(torch.cat([controls.nan_to_num(nan=0.0), told.to(controls.dtype)], dim=1))
        return torch.where(told.any(dim=1, keepdim=True), embedded, 0.0)
