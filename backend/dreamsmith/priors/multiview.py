# SPDX-License-Identifier: Apache-2.0
"""MVDream (Shi et al. 2023): four views of one object denoised together.

Its UNet is Stable Diffusion 2.1's with two changes: a camera embedding is added to that of the
time, and self-attention runs over the tokens of all four views (section 3.2). So it is built here
from diffusers' UNet, and published weights are renamed, not another network written.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import Tensor

from dreamsmith.priors.latent import StableDiffusionPrior
from dreamsmith.priors.prior import Text, image_layout

VIEWS = 4
CAMERA_NUMBERS = 16


class MultiViewAttention(AttnProcessor2_0):  # type: ignore[misc]
    """Attention of each token to those of all `VIEWS` views of its object."""

    def __call__(self, attn: Any, hidden_states: Tensor, *rest: Any, **named: Any) -> Tensor:
        """Attend; ``hidden_states`` (B, N, D), views of one object next to each other."""
        together = hidden_states.reshape(-1, VIEWS * hidden_states.shape[1], hidden_states.shape[2])
        attended: Tensor = super().__call__(attn, together, *rest, **named)
        return attended.reshape(hidden_states.shape[0], -1, attended.shape[-1])


def build_multiview_unet(settings: dict[str, Any]) -> UNet2DConditionModel:
    """MVDream's UNet with random weights.

    Args:
        settings: its published configuration, in the words of the original code
            (``model_channels``, ``channel_mult``, ``attention_resolutions``, ...).
    """
    widths = [settings["model_channels"] * factor for factor in settings["channel_mult"]]
    # Attention where the picture is this many times smaller than the latents.
    attends = [2**level in settings["attention_resolutions"] for level in range(len(widths))]
    unet = UNet2DConditionModel(
        sample_size=settings["image_size"],
        in_channels=settings["in_channels"],
        out_channels=settings["out_channels"],
        block_out_channels=widths,
        layers_per_block=settings["num_res_blocks"],
        down_block_types=["CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attends],
        up_block_types=["CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)],
        cross_attention_dim=settings["context_dim"],
        # By this name diffusers means the number of heads.
        attention_head_dim=[width // settings["num_head_channels"] for width in widths],
        transformer_layers_per_block=settings.get("transformer_depth", 1),
        use_linear_projection=True,
        class_embed_type="projection",
        projection_class_embeddings_input_dim=settings.get("camera_dim") or CAMERA_NUMBERS,
    )
    look_at_all_views(unet)
    return unet


def look_at_all_views(unet: UNet2DConditionModel) -> None:
    """Let self-attention run over all views; attention to the text stays each view's own."""
    unet.set_attn_processor(
        {
            name: MultiViewAttention() if ".attn1." in name else AttnProcessor2_0()
            for name in unet.attn_processors
        }
    )


def rename_published(weights: dict[str, Tensor], unet: UNet2DConditionModel) -> dict[str, Tensor]:
    """Weights under the names of the original code, under those of `build_multiview_unet`.

    Args:
        weights: of a published UNet, with or without ``model.diffusion_model.`` in front.
        unet: whose configuration says how many blocks there are.
    """
    prefix = "model.diffusion_model."
    named: dict[str, Tensor] = {}
    for name, value in weights.items():
        plain = name.removeprefix(prefix)
        # diffusers knows this embedding by the name that SDXL gave it.
        plain = plain.replace("camera_embed.", "label_emb.0.")
        named[prefix + plain] = value
    return dict(convert_ldm_unet_checkpoint(named, unet.config))


class MultiViewPrior(StableDiffusionPrior):
    """MVDream; ``camera_to_world`` is its camera, moved to the unit sphere.

    Its world is Blender's, as ours: z up, and azimuth 0 looks from -Y.
    """

    group = VIEWS
    # Section 4.2.
    guidance_scale = 50.0

    def __init__(self, pipeline: Any, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__(pipeline, device, dtype)
        look_at_all_views(self.network)

    def _output(
        self, x_t: Tensor, timestep: Tensor, text: Text, camera_to_world: Tensor | None
    ) -> Tensor:
        if camera_to_world is None or len(x_t) % VIEWS:
            raise ValueError(f"a multi-view prior needs cameras, {VIEWS} views of each object")
        cameras = camera_to_world.to(self.device, torch.float32).clone()
        cameras[:, :3, 3] = torch.nn.functional.normalize(cameras[:, :3, 3], dim=-1)
        output: Tensor = self.network(
            image_layout(x_t, self.dtype),
            timestep,
            text.sequence.to(self.dtype),
            class_labels=cameras.flatten(1).to(self.dtype),
        ).sample
        return output.float()
