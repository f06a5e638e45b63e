# SPDX-License-Identifier: Apache-2.0
"""Pipelines of each family's true classes with tiny random networks."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    DDIMScheduler,
    DDPMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
    IFPipeline,
    PNDMScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import save_file
from sentencepiece import SentencePieceTrainer
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3ForCausalLM,
    T5Tokenizer,
)
from transformers.convert_slow_tokenizer import bytes_to_unicode

from dreamsmith.priors.bundled.model import (
    build_pipeline,
    build_scheduler,
    build_text_encoder,
)
from dreamsmith.priors.multiview import build_multiview_unet

TEXT_WIDTH = 32
# What a model_index.json may hold that makes no model of ours, and words that say so.
BROKEN_INDICES: tuple[tuple[object, str], ...] = (
    ('{"_class_name": "IFPipe', "model_index.json cannot be read"),
    ([], "model_index.json cannot be read"),
    ({}, "model_index.json cannot be read"),
    ({"_diffusers_version": "0.42.1"}, "names no _class_name"),
    ({"_class_name": ["pipeline", "OwnPipeline"]}, "made by code of its own"),
    ({"_class_name": "ShapEPipeline"}, "is a ShapEPipeline, which is of no family"),
    (
        {
            "_class_name": "StableDiffusionXLPipeline",
            "scheduler": ["diffusers", "EDMEulerScheduler"],
        },
        "EDMEulerScheduler",
    ),
)


def pixel(prediction_type: str = "epsilon") -> IFPipeline:
    """DeepFloyd IF's first stage, with six output channels."""
    torch.manual_seed(0)
    tokenizer = t5_tokenizer()
    unet = UNet2DConditionModel(
        sample_size=16,
        in_channels=3,
        out_channels=6,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=128,
        attention_head_dim=2,
        norm_num_groups=4,
    )
    pipeline = build_pipeline(unet, build_text_encoder(len(tokenizer)), tokenizer)
    pipeline.scheduler = DDPMScheduler.from_config(
        build_scheduler().config, prediction_type=prediction_type, clip_sample=False
    )
    return pipeline


def save_pixel(folder: Path, prediction_type: str = "epsilon") -> IFPipeline:
    """As published: its tokenizer is a model of sentencepiece and no ``tokenizer.json``."""
    pipeline = pixel(prediction_type)
    pipeline.save_pretrained(folder)
    (folder / "tokenizer" / "tokenizer.json").unlink()
    _write_t5_tokenizer(folder / "tokenizer")
    return pipeline


def stable_diffusion(prediction_type: str = "epsilon") -> StableDiffusionPipeline:
    """Stable Diffusion 1.5 (epsilon) or 2.1 (v_prediction)."""
    torch.manual_seed(0)
    return StableDiffusionPipeline(
        vae=_vae(),
        text_encoder=CLIPTextModel(_clip_config()),
        tokenizer=clip_tokenizer(),
        unet=_unet(),
        scheduler=PNDMScheduler(prediction_type=prediction_type, **_SCHEDULE),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def stable_diffusion_xl() -> StableDiffusionXLPipeline:
    torch.manual_seed(0)
    return StableDiffusionXLPipeline(
        vae=_vae(force_upcast=True),
        text_encoder=CLIPTextModel(_clip_config()),
        text_encoder_2=CLIPTextModelWithProjection(_clip_config()),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(),
        unet=_unet(
            cross_attention_dim=2 * TEXT_WIDTH,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + TEXT_WIDTH,
        ),
        scheduler=EulerDiscreteScheduler(**_SCHEDULE),
    )


def stable_diffusion_3(*, has_t5: bool = False) -> StableDiffusion3Pipeline:
    """Without its third text encoder, as it may be used; or with it."""
    torch.manual_seed(0)
    return StableDiffusion3Pipeline(
        transformer=SD3Transformer2DModel(
            sample_size=8,
            patch_size=2,
            in_channels=4,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=4,
            caption_projection_dim=32,
            joint_attention_dim=4 * TEXT_WIDTH,
            pooled_projection_dim=2 * TEXT_WIDTH,
            out_channels=4,
            pos_embed_max_size=16,
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=_vae(shift_factor=0.06, scaling_factor=1.5),
        text_encoder=CLIPTextModelWithProjection(_clip_config()),
        tokenizer=clip_tokenizer(),
        text_encoder_2=CLIPTextModelWithProjection(_clip_config()),
        tokenizer_2=clip_tokenizer(),
        text_encoder_3=build_text_encoder(len(t5_tokenizer())) if has_t5 else None,
        tokenizer_3=t5_tokenizer() if has_t5 else None,
    )


def save_stable_diffusion_3_with_t5(folder: Path) -> StableDiffusion3Pipeline:
    """As published: its third tokenizer lies there in both formats, under its older class name."""
    pipeline = stable_diffusion_3(has_t5=True)
    pipeline.save_pretrained(folder)
    _write_t5_tokenizer(folder / "tokenizer_3")
    index = json.loads((folder / "model_index.json").read_text())
    index["tokenizer_3"] = ["transformers", "T5TokenizerFast"]
    (folder / "model_index.json").write_text(json.dumps(index))
    return pipeline


def flux2_klein(is_distilled: bool = False) -> Flux2KleinPipeline:
    torch.manual_seed(0)
    tokenizer = _qwen_tokenizer()
    width = 8
    return Flux2KleinPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=AutoencoderKLFlux2(
            block_out_channels=(4, 4, 8, 8),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            latent_channels=4,
            layers_per_block=1,
            norm_num_groups=2,
        ),
        text_encoder=Qwen3ForCausalLM(
            Qwen3Config(
                vocab_size=len(tokenizer),
                hidden_size=width,
                intermediate_size=width,
                num_hidden_layers=28,
                num_attention_heads=1,
                num_key_value_heads=1,
                head_dim=8,
            )
        ),
        tokenizer=tokenizer,
        transformer=Flux2Transformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=3 * width,
            timestep_guidance_channels=16,
            axes_dims_rope=(4, 4, 4, 4),
            guidance_embeds=False,
        ),
        is_distilled=is_distilled,
    )


MULTI_VIEW_SETTINGS = {
    "_class_name": "MultiViewUNetModel",
    "image_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 32,
    "attention_resolutions": [2, 1],
    "num_res_blocks": 1,
    "channel_mult": [1, 2],
    "num_head_channels": 8,
    "transformer_depth": 1,
    "context_dim": TEXT_WIDTH,
    "camera_dim": 16,
}


def save_multi_view(folder: Path) -> UNet2DConditionModel:
    """MVDream as published: its UNet's weights under the names of the original code."""
    pipeline = stable_diffusion()
    pipeline.scheduler = DDIMScheduler(clip_sample=False, set_alpha_to_one=False, **_SCHEDULE)
    pipeline.save_pretrained(folder)
    torch.manual_seed(1)
    unet = build_multiview_unet(MULTI_VIEW_SETTINGS)
    for file in (folder / "unet").iterdir():
        file.unlink()
    save_file(
        {published(name): value for name, value in unet.state_dict().items()},
        folder / "unet" / "diffusion_pytorch_model.safetensors",
    )
    (folder / "unet" / "config.json").write_text(json.dumps(MULTI_VIEW_SETTINGS))
    index = json.loads((folder / "model_index.json").read_text())
    index |= {"_class_name": "MVDreamPipeline", "unet": ["mv_unet", "MultiViewUNetModel"]}
    (folder / "model_index.json").write_text(json.dumps(index))
    return unet


_OUTER = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "class_embedding.linear_1": "camera_embed.0",
    "class_embedding.linear_2": "camera_embed.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}


def published(name: str) -> str:
    """A weight of the tiny multi-view UNet, as the original code calls it."""
    module, leaf = name.rsplit(".", 1)
    if module in _OUTER:
        return f"{_OUTER[module]}.{leaf}"
    block, rest = _block(module)
    if rest.startswith("resnets."):
        inner = rest.split(".", 2)[2]
        return f"{block}.{_RESNET[inner]}.{leaf}"
    if rest.startswith("attentions."):
        return f"{block}.{rest.split('.', 2)[2]}.{leaf}"
    return f"{block}.{leaf}"


def _block(module: str) -> tuple[str, str]:
    """Its block's name, and what is left of the module's."""
    parts = module.split(".")
    if parts[0] == "mid_block":
        index = 1 if parts[1] == "attentions" else 2 * int(parts[2])
        return f"middle_block.{index}", ".".join(parts[1:])
    level, kind, number, rest = int(parts[1]), parts[2], int(parts[3]), ".".join(parts[2:])
    layers = MULTI_VIEW_SETTINGS["num_res_blocks"]
    assert isinstance(layers, int)
    if parts[0] == "down_blocks":
        if kind == "downsamplers":
            return f"input_blocks.{1 + level * (layers + 1) + layers}.0.op", rest
        return f"input_blocks.{1 + level * (layers + 1) + number}.{int(kind != 'resnets')}", rest
    if kind == "upsamplers":
        return f"output_blocks.{level * (layers + 1) + layers}.2.conv", rest
    return f"output_blocks.{level * (layers + 1) + number}.{int(kind != 'resnets')}", rest


def _saved(build: Callable[..., Any], *arguments: object) -> Callable[[Path], None]:
    def save(folder: Path) -> None:
        build(*arguments).save_pretrained(folder)

    return save


# How each family lies on disk.
SAVERS: dict[str, Callable[[Path], object]] = {
    "if": save_pixel,
    "sd15": _saved(stable_diffusion, "epsilon"),
    "sd21": _saved(stable_diffusion, "v_prediction"),
    "sdxl": _saved(stable_diffusion_xl),
    "sd3": _saved(stable_diffusion_3),
    "flux2": _saved(flux2_klein),
    "mvdream": save_multi_view,
}

_SCHEDULE: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "steps_offset": 1,
}


def _unet(**changes: Any) -> UNet2DConditionModel:
    settings: dict[str, Any] = {
        "sample_size": 8,
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "cross_attention_dim": TEXT_WIDTH,
        "attention_head_dim": 2,
        "norm_num_groups": 4,
    }
    return UNet2DConditionModel(**settings | changes)


def _vae(**changes: Any) -> AutoencoderKL:
    """Eight pixels a latent, as in all of them."""
    return AutoencoderKL(
        block_out_channels=(4, 4, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        norm_num_groups=2,
        **changes,
    )


def _clip_config() -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(clip_tokenizer()),
        hidden_size=TEXT_WIDTH,
        projection_dim=TEXT_WIDTH,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        bos_token_id=512,
        eos_token_id=513,
        pad_token_id=513,
    )


def clip_tokenizer() -> CLIPTokenizer:
    letters = list(bytes_to_unicode().values())
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={word: index for index, word in enumerate(words)}, merges=[], model_max_length=77
    )


_SENTENCES = (
    "a red mug, front view",
    "a blue chair of wood, side view",
    "a tree of gold, back view",
    "the striped teapot is not a very large vase",
    "mug number 0 1 2 3 4 5 6 7 8 9",
)


@cache
def t5_pieces() -> bytes:
    """A ``spiece.model`` like T5's, with few pieces: 0 pads, 1 ends, 2 is unknown."""
    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(_SENTENCES),
        model_writer=model,
        vocab_size=64,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()


def _write_t5_tokenizer(folder: Path) -> None:
    """The files that T5's tokenizer was published with."""
    tokens: dict[str, object] = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    tokens["additional_special_tokens"] = [f"<extra_id_{index}>" for index in range(100)]
    settings = {"extra_ids": 100, "model_max_length": 512, "tokenizer_class": "T5Tokenizer"}
    (folder / "special_tokens_map.json").write_text(json.dumps(tokens))
    (folder / "tokenizer_config.json").write_text(json.dumps(tokens | settings))
    (folder / "spiece.model").write_bytes(t5_pieces())


@cache
def t5_tokenizer() -> T5Tokenizer:
    with TemporaryDirectory() as folder:
        _write_t5_tokenizer(Path(folder))
        return T5Tokenizer.from_pretrained(folder)


def _qwen_tokenizer() -> Qwen2Tokenizer:
    words = [*bytes_to_unicode().values(), "<|endoftext|>"]
    tokenizer = Qwen2Tokenizer(
        vocab={word: index for index, word in enumerate(words)}, merges=[], model_max_length=512
    )
    tokenizer.chat_template = "{% for message in messages %}{{ message.content }}{% endfor %}"
    return tokenizer


def save_single_file(pipeline: StableDiffusionPipeline, file: Path) -> None:
    """All of a Stable Diffusion's weights in one file, under the names of the original code."""
    unet, vae = pipeline.unet.state_dict(), pipeline.vae.state_dict()
    text = pipeline.text_encoder.state_dict()
    weights = {f"model.diffusion_model.{published(name)}": value for name, value in unet.items()}
    weights |= {f"first_stage_model.{_published_vae(k)}": _as_conv(k, v) for k, v in vae.items()}
    weights |= {
        f"cond_stage_model.transformer.text_model.{name.removeprefix('text_model.')}": value
        for name, value in text.items()
    }
    save_file({name: value.contiguous() for name, value in weights.items()}, file)


def _published_vae(name: str) -> str:
    for ours, theirs in (
        ("mid_block.resnets.0", "mid.block_1"),
        ("mid_block.resnets.1", "mid.block_2"),
        ("mid_block.attentions.0", "mid.attn_1"),
        ("attn_1.group_norm", "attn_1.norm"),
        ("attn_1.to_out.0", "attn_1.proj_out"),
        ("attn_1.to_", "attn_1."),
        ("down_blocks.", "down."),
        ("resnets.", "block."),
        ("downsamplers.0", "downsample"),
        ("upsamplers.0", "upsample"),
        ("conv_shortcut", "nin_shortcut"),
        ("conv_norm_out", "norm_out"),
    ):
        name = name.replace(ours, theirs)
    # The original counts the decoder's levels from the finest.
    return re.sub(r"up_blocks\.(\d)", lambda found: f"up.{3 - int(found[1])}", name)


def _as_conv(name: str, value: torch.Tensor) -> torch.Tensor:
    """The original's attention is made of convolutions."""
    is_matrix = "attentions" in name and "weight" in name and "group_norm" not in name
    return value[:, :, None, None] if is_matrix else value
